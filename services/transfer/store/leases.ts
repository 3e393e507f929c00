import { randomBytes } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { quote } from "#base/quote.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { LeaseLookup } from "../streams/lease-watch.ts";
import { boundedCall, type Caller } from "./caller.ts";

/** How long a lease lives that nobody deletes. @source containerd v2.3.4 core/transfer/local/transfer.go `withLease` */
const leaseMs = 24 * 60 * 60 * 1000;

/** The leases that the metadata process keeps. */
export interface TransferLeases extends LeaseLookup {
  /**
   * Does something under the lease of its client, or under a new one that is gone afterwards.
   *
   * What is made meanwhile is held by the lease; after a crash that is a day.
   */
  hold<T>(caller: Caller, work: (leased: Caller) => Promise<T>): Promise<T>;
}

/** @param onTrouble - Told when a lease could not be deleted, which then expires by itself. */
export function connectLeases(metadata: RpcConnection, onTrouble: (error: unknown) => void): TransferLeases {
  const client = createClient(Leases, metadata.transport);
  return {
    async existing(namespace, ids, signal) {
      const filters = ids.map((id) => `id==${quote(id)}`);
      const { leases } = await client.list({ filters }, boundedCall({ namespace, lease: "" }, signal));
      return new Set(leases.map(({ id }) => id));
    },
    async hold(caller, work) {
      if (caller.lease !== "") {
        return await work(caller);
      }
      const labels = {
        "containerd.io/gc.expire": new Date(Date.now() + leaseMs).toISOString().replace(/\.\d+Z$/, "Z"),
      };
      const lease = randomLeaseId();
      await client.create({ id: lease, labels }, boundedCall(caller));
      try {
        return await work({ ...caller, lease });
      } finally {
        await client.delete({ id: lease }, boundedCall(caller)).catch(onTrouble);
      }
    },
  };
}

/** @source containerd v2.3.4 core/leases/id.go `WithRandomID` */
function randomLeaseId(): string {
  const nanoseconds = Temporal.Now.instant().epochNanoseconds % 1_000_000_000n;
  return `${nanoseconds}-${randomBytes(3).toString("base64url")}`;
}
