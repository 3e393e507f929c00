import { randomBytes } from "node:crypto";
import { type CriPeers, criCall } from "../peers.ts";

/** How long a lease lives that nobody deletes. @source containerd v2.3.4 client/lease.go `WithLease` */
const leaseMs = 24 * 60 * 60 * 1000;

/** Does something under a lease that holds what is made, and lets it go afterwards. After a crash that is a day. */
export async function withLease<T>(
  { leases }: Pick<CriPeers, "leases">,
  signal: AbortSignal,
  work: (lease: string) => Promise<T>,
): Promise<T> {
  const id = `cri-${randomBytes(12).toString("hex")}`;
  const expire = new Date(Date.now() + leaseMs).toISOString().replace(/\.\d+Z$/, "Z");
  await leases.create({ id, labels: { "containerd.io/gc.expire": expire } }, criCall({ signal }));
  try {
    return await work(id);
  } finally {
    // One that can't be deleted expires by itself.
    await leases.delete({ id }, criCall()).catch(() => undefined);
  }
}
