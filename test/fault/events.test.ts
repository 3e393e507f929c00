import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { Subscriber } from "../component/event-subscriber.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { faultsIn } from "./log-faults.ts";
import { probeCalls } from "./probe-calls.ts";
import { type Random, seededRandom } from "./random.ts";
import { readStoredMessages, type StoredMessage } from "./stored-messages.ts";

const killed = ["events", "nats-server", "metadata"] as const;
const killsMax = 20;
/** A process that dies more than ten times within a minute of its starts is given up. */
const killsOfOneMax = 9;
const pauseMsMax = 700;
/** What the life of each container must tell, once each. */
const life = [
  "/snapshot/prepare",
  "/containers/create",
  "/tasks/create",
  "/tasks/start",
  "/tasks/exit",
  "/tasks/delete",
  "/containers/delete",
];

let daemon: Daemon;
let leaks: LeakSnapshot;
/** Subscribe before anything happens, and live through all kills. The second reads only at the end. */
let live: Subscriber[] = [];
const namespace = uniqueNamespace();
const image = "docker.io/library/busybox:test";
const ctr = (...args: string[]) => daemon.ctr("-n", namespace, ...args);

before(async () => {
  leaks = await snapshotLeaks();
  daemon = await startFlotilla();
  const { transport } = daemon;
  const filters = [`namespace==${namespace}`];
  live = await Promise.all([Subscriber.start(transport, { filters }), Subscriber.start(transport, { filters })]);
  const { exitCode, stderr } = await ctr("images", "import", (await busyboxImage()).tar);
  assert.equal(exitCode, 0, stderr);
});

after(async () => {
  for (const subscriber of live) {
    await subscriber[Symbol.asyncDispose]();
  }
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

test("no event is lost or told twice while events, nats-server and metadata are killed", async (t) => {
  const random = seededRandom();
  t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
  const [reading, stalled] = live as [Subscriber, Subscriber];
  const heard: string[] = [];
  const hearing = reading.each(({ topic }) => heard.push(topic));
  hearing.catch(() => undefined);
  const stop = new AbortController();
  const running = runContainers(stop.signal);
  const kills = await killAtRandom(random).finally(() => stop.abort());
  const finished = await running;
  t.diagnostic(`${finished.length} containers, kills: ${JSON.stringify(kills)}`);
  assert.ok(finished.length >= 3, `only ${finished.length} containers ran`);

  await settled(finished);
  const messages = (await readStoredMessages(daemon)).filter((message) => message.namespace === namespace);
  assertUnique(messages, ({ messageId }) => messageId);
  assertUnique(messages, ({ topic, time, body }) => `${topic} ${time} ${body}`);
  for (const id of finished) {
    const own = messages.filter(({ body }) => mentions(body, id)).map(({ topic }) => topic);
    const missing = life.filter((topic) => own.filter((other) => other === topic).length !== 1);
    assert.deepEqual(missing, [], `${id} told ${own.join(" ")}`);
  }
  const topics = messages.map(({ topic }) => topic);
  assert.deepEqual(await replay(messages.length), topics);
  assert.deepEqual(await stalled.topics(messages.length), topics);
  await Promise.race([
    hearing,
    until(
      () => heard.length >= messages.length,
      () => `${heard.length} events heard`,
      30_000,
    ),
  ]);
  assert.deepEqual(heard, topics);
});

test("the log tells of nothing worse than the deaths", () => {
  assert.deepEqual(faultsIn(daemon.log()), []);
});

/** @returns how often each process was killed. */
async function killAtRandom(random: Random): Promise<Record<string, number>> {
  const kills: Record<string, number> = { events: 0, "nats-server": 0, metadata: 0 };
  for (let count = 0; count < killsMax; count++) {
    const left = killed.filter((name) => (kills[name] ?? 0) < killsOfOneMax);
    const name = random.pick([left[0] ?? "events", ...left.slice(1)]);
    await until(
      () => daemon.pidOf(name) !== undefined,
      () => `${name} is not started again:\n${daemon.log()}`,
      30_000,
    );
    await delay(random.below(pauseMsMax));
    await daemon.kill9(name);
    kills[name] = (kills[name] ?? 0) + 1;
  }
  return kills;
}

/** Runs one container after the other. @returns the ids of those whose whole life succeeded. */
async function runContainers(signal: AbortSignal): Promise<string[]> {
  const finished: string[] = [];
  const late = AbortSignal.timeout(180_000);
  for (let count = 0; !signal.aborted || (finished.length < 3 && !late.aborted); count++) {
    const id = `e${count}`;
    const { exitCode } = await ctr("run", "--rm", image, id, "sh", "-c", "exit 7");
    if (exitCode === 7 && !(await ctr("containers", "ls", "-q")).stdout.split("\n").includes(id)) {
      finished.push(id);
    }
  }
  return finished;
}

/** Waits until the daemon answers and what it has to tell is told: by metadata in order, before a last event, and by tasks of the last containers. */
async function settled(finished: readonly string[]): Promise<void> {
  const sentinel = "sentinel";
  assert.equal((await ctr("containers", "create", image, sentinel)).exitCode, 0, daemon.log());
  await probeCalls.events({ transport: daemon.transport, namespace, id: sentinel });
  await until(
    async () => {
      const messages = await readStoredMessages(daemon);
      const tells = (wanted: string, id: string): boolean =>
        messages.some(({ topic, body }) => topic === wanted && mentions(body, id));
      return tells("/containers/create", sentinel) && finished.every((id) => tells("/tasks/delete", id));
    },
    () => "not all is told",
    30_000,
  );
}

/** The topics that a subscriber gets who asks for everything, up to a count. */
async function replay(count: number): Promise<string[]> {
  const stop = AbortSignal.timeout(30_000);
  const topics: string[] = [];
  const events = createClient(Events, daemon.transport).subscribe(
    { filters: [`namespace==${namespace}`] },
    { headers: { "flotilla-since-sequence": "1" }, signal: stop },
  );
  for await (const { topic } of events) {
    topics.push(topic);
    if (topics.length === count) {
      break;
    }
  }
  return topics;
}

function mentions(body: string, id: string): boolean {
  return new RegExp(`"(?:id|key|containerId|container_id)":\\s*"${id}"`).test(body);
}

function assertUnique(messages: readonly StoredMessage[], keyOf: (message: StoredMessage) => string): void {
  const seen = new Set<string>();
  const twice = messages.filter((message) => {
    const key = keyOf(message);
    const isKnown = seen.has(key);
    seen.add(key);
    return isKnown;
  });
  assert.deepEqual(twice, []);
}
