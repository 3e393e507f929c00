import { create, toBinary } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { privateSocketOf } from "#fleet/process-name.ts";
import { TaskExitSchema } from "#gen/containerd/events/task_pb.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { connectRpc } from "#wire/client.ts";
import type { Daemon } from "../kit/daemon.ts";
import { startBoth } from "./daemons.ts";
import type { Bench } from "./measurement.ts";
import { interleave } from "./rounds.ts";

const rounds = 4;
const forwarded = 20_000;
const inFlight = 64;
const appended = 30_000;
const batchSize = 128;
const batchesInFlight = 4;

/** Topic of the events that only find out whether a subscription has begun. */
const probe = "/probe";

let made = 0;

/** Events from their publication until a subscriber has seen the last one. */
export const eventsBench: Bench = {
  name: "events",
  async run() {
    await using daemons = await startBoth();
    // Both have been at work for a while, as in the other benches: a round is over in less than a second.
    for (const { transport } of [daemons.flotilla, daemons.containerd]) {
      await seenRate(transport, forwarded, (namespace) => forward(transport, namespace));
    }
    const results = await interleave(rounds, async (side) => {
      const daemon = daemons[side];
      const forwardRate = await seenRate(daemon.transport, forwarded, (namespace) =>
        forward(daemon.transport, namespace),
      );
      // containerd has no other way in than a call for each event.
      const appendRate =
        side === "containerd"
          ? forwardRate
          : await seenRate(daemon.transport, appended, (namespace) => append(daemon, namespace));
      return { forwardRate, appendRate };
    });
    return [
      {
        what: "events forwarded by a client and seen, 64 in flight",
        unit: "events/s",
        better: "higher",
        target: { kind: "ratio", bound: 1 },
        samples: results.forwardRate,
      },
      {
        what: "events published by the fleet, durable and seen",
        unit: "events/s",
        better: "higher",
        target: { kind: "value", bound: 10_000 },
        samples: results.appendRate,
      },
    ];
  },
};

/** Publishes so many events and waits until they have been seen. */
async function seenRate(
  transport: Transport,
  count: number,
  publish: (namespace: string) => Promise<void>,
): Promise<number> {
  made++;
  const namespace = `bench${made}`;
  const stop = new AbortController();
  const subscription = createClient(Events, transport).subscribe(
    { filters: [`namespace==${namespace}`] },
    { signal: stop.signal },
  );
  const events = subscription[Symbol.asyncIterator]();
  const first = events.next();
  // containerd does not say when a subscription has begun.
  for (let subscribed = false; !subscribed; ) {
    await createClient(Events, transport).forward({ envelope: { ...envelopeIn(namespace), topic: probe } });
    subscribed = await Promise.race([
      first.then(() => true),
      new Promise<false>((resolve) => setTimeout(resolve, 50, false)),
    ]);
  }
  const startedMs = performance.now();
  const published = publish(namespace);
  for (let seen = 0; seen < count; ) {
    const { value, done } = await events.next();
    if (done === true) {
      throw new Error(`the subscription ended after ${seen} events`);
    }
    seen += value.topic === probe ? 0 : 1;
  }
  await published;
  const elapsedMs = performance.now() - startedMs;
  stop.abort();
  await events.next().catch(() => undefined);
  return (count * 1000) / elapsedMs;
}

async function forward(transport: Transport, namespace: string): Promise<void> {
  const client = createClient(Events, transport);
  const envelope = envelopeIn(namespace);
  let next = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (next < forwarded) {
        next++;
        await client.forward({ envelope });
      }
    }),
  );
}

async function append(daemon: Daemon, namespace: string): Promise<void> {
  const connection = connectRpc(privateSocketOf(daemon.state, "events"));
  const client = createClient(EventLog, connection.transport);
  const envelope = envelopeIn(namespace);
  let next = 0;
  await Promise.all(
    Array.from({ length: batchesInFlight }, async () => {
      while (next < appended) {
        const from = next;
        next += batchSize;
        const records = Array.from({ length: Math.min(batchSize, appended - from) }, (_, index) => ({
          messageId: `${namespace}-${from + index}`,
          envelope,
        }));
        await client.append({ records });
      }
    }),
  );
  connection.close();
}

function envelopeIn(namespace: string) {
  const exit = create(TaskExitSchema, {
    containerId: "0123456789abcdef",
    id: "0123456789abcdef",
    pid: 4711,
    exitedAt: { seconds: 1_700_000_000n, nanos: 123_456_789 },
  });
  return {
    timestamp: { seconds: 1_700_000_000n, nanos: 123_456_789 },
    namespace,
    topic: "/tasks/exit",
    event: { typeUrl: TaskExitSchema.typeName, value: toBinary(TaskExitSchema, exit) },
  };
}
