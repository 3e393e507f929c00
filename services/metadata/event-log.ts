import { fromBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { Publish } from "./outbox-publisher.ts";

/** How long the events process may take for a batch, before it is sent again. */
const appendMsMax = 30_000;

/** Publishes through the events process. */
export function connectEventLog(connection: RpcConnection): Publish {
  const log = createClient(EventLog, connection.transport);
  return async (events, signal) => {
    const records = events.map(({ messageId, envelope }) => ({
      messageId,
      envelope: fromBinary(EnvelopeSchema, envelope),
    }));
    await log.append({ records }, { signal, timeoutMs: appendMsMax });
  };
}
