import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { timestampNow } from "#base/times.ts";
import type { Logger } from "#fleet/log.ts";
import { EventLog as EventLogService } from "#gen/flotilla/events/v1/log_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { EventLog } from "./domain/ports.ts";

/** How long one try may take. */
const appendMsMax = 30_000;
const retryDelayMsMin = 100;
const retryDelayMsMax = 5_000;

/** The stream of events, which the events process keeps. */
export function connectEventLog(
  connection: RpcConnection,
  { log, stopping }: { readonly log: Logger; readonly stopping: AbortSignal },
): EventLog {
  const client = createClient(EventLogService, connection.transport);
  return {
    async publish(events) {
      const records = events.map(({ messageId, namespace, topic, event }) => ({
        messageId,
        envelope: { timestamp: timestampNow(), namespace, topic, event },
      }));
      for (let waitMs = retryDelayMsMin; ; waitMs = Math.min(2 * waitMs, retryDelayMsMax)) {
        stopping.throwIfAborted();
        try {
          await client.append({ records }, { signal: stopping, timeoutMs: appendMsMax });
          return;
        } catch (error) {
          if (isFailure(error, ErrorKind.ResourceExhausted)) {
            log.error(
              { err: error, topics: events.map(({ topic }) => topic) },
              "events are larger than the stream takes",
            );
            return;
          }
          log.warn({ err: error, topics: events.map(({ topic }) => topic) }, "events are not published yet");
          await delay(waitMs, undefined, { signal: stopping, ref: false });
        }
      }
    },
  };
}
