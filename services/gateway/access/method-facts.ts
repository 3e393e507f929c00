import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { routesByPath } from "#fleet/topology.ts";
import { type ObjectFields, objectFieldsOf } from "./call-object.ts";
import type { JudgedMethod } from "./policy.ts";

/** What is known of a method. */
export interface MethodFacts extends JudgedMethod {
  /** What of its request names what it is about; nothing for methods that change nothing, which the audit leaves out. */
  readonly object: ObjectFields;
}

/** Services that tell of the daemon and not of anything in it. */
const withoutNamespace = [
  "containerd.services.version.v1.Version",
  "containerd.services.introspection.v1.Introspection",
  "grpc.health.v1.Health",
];

/**
 * Methods that name what they are about in their messages, which the relay does not read, or are about all namespaces; and the kubelet's, whose
 * namespace is its own.
 */
const overNamespaces = [
  "containerd.services.namespaces.v1.Namespaces/",
  "containerd.services.events.v1.Events/Subscribe",
  "containerd.services.events.v1.Events/Forward",
  "runtime.v1.",
];

/** Lists of names, which tell nothing that is in a namespace. */
const harmless = [
  "containerd.services.namespaces.v1.Namespaces/Get",
  "containerd.services.namespaces.v1.Namespaces/List",
];

/** What is known of each public method, by `package.Service/Method`. */
export function methodFacts(): Map<string, MethodFacts> {
  const facts = new Map<string, MethodFacts>();
  for (const [path, { method }] of routesByPath()) {
    const name = path.slice(1);
    const reads = method.idempotency === Idempotency.NO_SIDE_EFFECTS;
    facts.set(name, { reads, scope: scopeOf(name), object: reads ? new Map() : objectFieldsOf(method) });
  }
  return facts;
}

function scopeOf(method: string): MethodFacts["scope"] {
  if (harmless.includes(method) || withoutNamespace.some((service) => method.startsWith(`${service}/`))) {
    return "none";
  }
  return overNamespaces.some((start) => method.startsWith(start)) ? "all" : "namespace";
}
