import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { EventLog, type RecordSchema } from "#gen/flotilla/events/v1/log_pb.ts";
import type { RpcConnection } from "#wire/client.ts";

/** How long one call may take. */
const appendMsMax = 30_000;

/** An event with its message id, which is unique for ever. */
export type AppendedEvent = MessageInitShape<typeof RecordSchema>;

/**
 * Publishes events in order. Once it has resolved, they are durable; publishing one again under the same message id is harmless.
 *
 * @throws {@link FlotillaError}
 *   - `resource_exhausted`: one of them is larger than the stream ever takes. Publishing these events again is useless.
 *   - `unavailable` or `deadline_exceeded`: they may be stored or not, and are to be published again.
 */
export type AppendEvents = (events: readonly AppendedEvent[], signal: AbortSignal) => Promise<void>;

/** The log of events, which the events process keeps. */
export function connectEventLog(connection: RpcConnection): AppendEvents {
  const log = createClient(EventLog, connection.transport);
  return async (events, signal) => {
    await log.append({ records: [...events] }, { signal, timeoutMs: appendMsMax });
  };
}
