import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { timestampNow } from "#base/times.ts";
import { Turns } from "#base/turns.ts";
import type { Logger } from "#fleet/log.ts";
import { connectEventLog } from "#fleet/peers/event-log.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { EventLog, TaskEvent } from "./domain/ports.ts";

const retryDelayMsMin = 100;
const retryDelayMsMax = 5_000;

/** How many calls are under way or tried again at the same time, however many tasks have ended. */
const parallelMax = 4;

/**
 * Publishes what becomes of tasks, again and again until it is taken.
 *
 * What waits is held by bundles too, which stay until their events are taken: so the memory that it takes is bounded by the tasks that there
 * were, and a process that is killed tells it at its next start.
 */
export function openEventLog(
  connection: RpcConnection,
  { log, stopping }: { readonly log: Logger; readonly stopping: AbortSignal },
): EventLog {
  const append = connectEventLog(connection);
  const turns = new Turns(parallelMax);
  return {
    publish: (events) => turns.run(() => publish(events)),
  };

  async function publish(events: readonly TaskEvent[]): Promise<void> {
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
  }
}
