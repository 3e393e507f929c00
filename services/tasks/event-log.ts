import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { timestampNow } from "#base/times.ts";
import type { Logger } from "#fleet/log.ts";
import { connectEventLog } from "#fleet/peers/event-log.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { EventLog } from "./domain/ports.ts";

const retryDelayMsMin = 100;
const retryDelayMsMax = 5_000;

/** Publishes what becomes of tasks, again and again until it is taken. */
export function openEventLog(
  connection: RpcConnection,
  { log, stopping }: { readonly log: Logger; readonly stopping: AbortSignal },
): EventLog {
  const append = connectEventLog(connection);
  return {
    async publish(events) {
      const records = events.map(({ messageId, namespace, topic, event }) => ({
        messageId,
        envelope: { timestamp: timestampNow(), namespace, topic, event },
      }));
      for (let waitMs = retryDelayMsMin; ; waitMs = Math.min(2 * waitMs, retryDelayMsMax)) {
        stopping.throwIfAborted();
        try {
          await append(records, stopping);
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
