import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { connectLeases } from "./lease-client.ts";
import { streamingGrpcPlugin } from "./plugins.ts";
import { streamingService } from "./rpc/streaming.ts";
import { LeaseWatch } from "./streams/lease-watch.ts";
import { StreamTable } from "./streams/stream-table.ts";

/** Puts the transfer process together: streams of clients, and images on their way in and out. */
export function composeTransfer(context: ProcessContext): ProcessParts {
  const { log, stopping } = context;
  const streams = new StreamTable();
  const leases = new LeaseWatch(streams, connectLeases(context.connect("metadata")), {
    stopping,
    onTrouble: (error) => log.warn({ err: error }, "the leases of streams could not be looked up"),
  });
  return {
    plugins: [{ manifest: streamingGrpcPlugin, init: () => ({ services: [streamingService(streams, leases)] }) }],
  };
}
