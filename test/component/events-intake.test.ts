import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Events as TtrpcEvents } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { connectTtrpc, type TtrpcClient } from "#wire/ttrpc/client.ts";
import { until } from "../kit/processes.ts";
import { Subscriber } from "./event-subscriber.ts";
import { EventsProcess, type FleetHome, makeFleetHome } from "./events-process.ts";
import { NatsServer } from "./nats-server.ts";

const sinceStart = { headers: { "flotilla-since-sequence": "1" } };

/** How long a shim waits for the answer to an event. @source containerd v2.3.4 pkg/shim/publisher.go */
const shimPatienceMs = 5_000;

function tell(shim: TtrpcClient, topic: string): Promise<unknown> {
  const envelope = {
    timestamp: { seconds: 1_700_000_000n, nanos: 1 },
    namespace: "shims",
    topic,
    event: { typeUrl: "test.Event", value: Buffer.from(topic) },
  };
  return shim.unary(TtrpcEvents.method.forward, { envelope }, { timeoutMs: shimPatienceMs });
}

function numbered(prefix: string, from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => `/${prefix}/${from + index}`);
}

async function spoolFiles({ config }: FleetHome): Promise<string[]> {
  return await readdir(`${config.root}/io.flotilla.events.v1.nats/spool`);
}

async function shimOf(events: EventsProcess): Promise<TtrpcClient & Disposable> {
  const shim = await connectTtrpc(events.ttrpcSocketPath);
  return { ...shim, unary: shim.unary.bind(shim), [Symbol.dispose]: () => shim.close() };
}

test("without NATS events are on disk before they are answered, and go out in order when it is back", async () => {
  await using nats = await NatsServer.start();
  await using home = await makeFleetHome(`url = "${nats.url}"`);
  await using events = await EventsProcess.start(home);
  {
    using shim = await shimOf(events);
    await tell(shim, "/before");
    await nats.kill();
    for (const topic of numbered("away", 0, 20)) {
      await tell(shim, topic);
    }
    assert.ok((await spoolFiles(home)).length > 0);
    // Neither process has them in memory now.
    await events.kill();
  }
  await events.restart();
  using shim = await shimOf(events);
  for (const topic of numbered("away", 20, 30)) {
    await tell(shim, topic);
  }
  // A shim that was not answered in time tells again.
  await tell(shim, "/away/29");
  await nats.restart();
  await tell(shim, "/after");
  await using subscriber = await Subscriber.start(events.transport, sinceStart);
  assert.deepEqual(await subscriber.topics(32), ["/before", ...numbered("away", 0, 30), "/after"]);
  await until(
    async () => (await spoolFiles(home)).length === 0,
    () => "the spool is not emptied",
  );
});

test("nothing that was answered is lost or told twice while the process and its NATS server are killed", async () => {
  await using home = await makeFleetHome();
  await using events = await EventsProcess.start(home);
  const told: string[][] = [];
  const stop = new AbortController();
  const shims = ["one", "two", "three"].map(async (name) => {
    const answered: string[] = [];
    told.push(answered);
    for (let number = 0; !stop.signal.aborted; number++) {
      await tellUntilAnswered(events, `/${name}/${number}`);
      answered.push(`/${name}/${number}`);
    }
  });
  const progress = async (count: number): Promise<void> => {
    const wanted = (told[0]?.length ?? 0) + count;
    await until(
      () => (told[0]?.length ?? 0) >= wanted,
      () => `no progress: ${events.log}`,
      60_000,
    );
  };
  try {
    for (let round = 0; round < 4; round++) {
      await progress(50);
      await events.killNats();
      await progress(50);
      await events.kill();
      await events.restart();
    }
    await progress(50);
  } finally {
    stop.abort();
    await Promise.allSettled(shims);
  }
  await Promise.all(shims);
  await until(
    async () => (await spoolFiles(home)).length === 0,
    () => `the spool is not emptied: ${events.log}`,
    30_000,
  );
  await using subscriber = await Subscriber.start(events.transport, sinceStart);
  const seen = await subscriber.topics(told.flat().length);
  for (const answered of told) {
    const prefix = answered[0]?.slice(0, -1) ?? "";
    assert.deepEqual(
      seen.filter((topic) => topic.startsWith(prefix)),
      answered,
    );
  }
});

/** Tells an event as a shim does by way of the gateway, which repeats what has no answer. */
async function tellUntilAnswered(events: EventsProcess, topic: string): Promise<void> {
  for (const deadline = performance.now() + 60_000; ; ) {
    try {
      using shim = await shimOf(events);
      await tell(shim, topic);
      return;
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable) || performance.now() > deadline) {
        throw error;
      }
      await delay(10);
    }
  }
}
