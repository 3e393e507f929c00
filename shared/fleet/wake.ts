import { createClient } from "@connectrpc/connect";
import type { FleetConfig } from "#config/config.ts";
import { Fleet } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { type ProcessName, privateSocketOf } from "./process-name.ts";

const wakeMsMax = 5_000;

/**
 * Asks the gateway to start a process on demand, for a peer that cannot reach it. A failure is nobody's concern: the peer tries again, and
 * says itself what it could not reach.
 */
export function wakePeer({ state }: FleetConfig, process: ProcessName): void {
  const gateway = connectRpc(privateSocketOf(state, "gateway"));
  createClient(Fleet, gateway.transport)
    .wake({ process }, { timeoutMs: wakeMsMax })
    .catch(() => undefined)
    .finally(() => gateway.close());
}
