import { randomBytes } from "node:crypto";
import { traces } from "./traces.ts";

/**
 * A containerd namespace that nobody else on this machine has. The names of cgroups, FIFOs, shim sockets and runc's state derive
 * from it and are host-wide.
 */
export function uniqueNamespace(): string {
  const namespace = `ft-${randomBytes(6).toString("hex")}`;
  traces.namespaces.add(namespace);
  return namespace;
}
