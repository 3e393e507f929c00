import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { Subscriber } from "../component/event-subscriber.ts";
import { WriteCall } from "../conformance/write-call.ts";
import { findInconsistencies } from "../kit/check.ts";
import { type Daemon, type DaemonProcess, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { packTar } from "../kit/tar.ts";
import { describeTree } from "../kit/tree.ts";
import { faultsIn } from "./log-faults.ts";
import { seededRandom } from "./random.ts";

/** Changes that `ctr run` does not make: each is made again when its process dies, and its client notices nothing. */

const snapshotter = "overlayfs";
const layerType = "application/vnd.oci.image.layer.v1.tar";
/** About how long an undisturbed call takes, within which its process dies. */
const applyMs = 150;
const diffMs = 600;
const abortMs = 6;
const publishMs = 300;

let daemon: Daemon;
let leaks: LeakSnapshot;
const random = seededRandom();
const namespace = uniqueNamespace();
const lease = "kept";
const headers = clientHeaders(namespace, lease);

before(async () => {
  leaks = await snapshotLeaks();
  daemon = await startFlotilla();
  await createClient(Leases, daemon.transport).create({ id: lease }, { headers: clientHeaders(namespace) });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** Makes a call and kills a process at some moment of it. */
async function killAmid<T>(name: DaemonProcess, withinMs: number, call: () => Promise<T>): Promise<T> {
  await running(name);
  const made = call();
  made.catch(() => undefined);
  await delay(random.below(withinMs));
  await daemon.kill9(name);
  return await made;
}

async function running(name: DaemonProcess): Promise<void> {
  await until(
    () => daemon.pidOf(name) !== undefined,
    () => `${name} is not started again:\n${daemon.log()}`,
    30_000,
  );
}

async function store(data: Buffer): Promise<string> {
  const digest = digestOf(data);
  const call = new WriteCall(createClient(Content, daemon.transport), { namespace, lease });
  await call.stat({ ref: digest, expected: digest, total: BigInt(data.length) });
  await call.commit({ data, offset: 0n, expected: digest, total: BigInt(data.length) });
  await call.finish();
  return digest;
}

/** Refs of what is being written. */
async function ingests(): Promise<string[]> {
  const { statuses } = await createClient(Content, daemon.transport).listStatuses({}, { headers });
  return statuses.map(({ ref }) => ref);
}

test("a layer is applied whole, whichever process dies meanwhile", async (t) => {
  t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
  const content = randomBytes(64 * 1024);
  const files = Array.from({ length: 200 }, (_none, index) => ({
    path: `file-${index}`,
    type: "file" as const,
    mode: 0o640,
    content,
  }));
  const layer = packTar(files);
  const digest = await store(layer);
  const diff = createClient(Diff, daemon.transport);
  const snapshots = createClient(Snapshots, daemon.transport);
  const request = { diff: { mediaType: layerType, digest, size: BigInt(layer.length) } };
  const treeOf = async (key: string, apply: (call: () => Promise<string>) => Promise<string>): Promise<unknown> => {
    const { mounts } = await snapshots.prepare({ snapshotter, key }, { headers });
    const applied = await apply(async () => {
      return (await diff.apply({ ...request, mounts }, { headers })).applied?.digest ?? "";
    });
    assert.equal(applied, digest);
    return describeTree(mounts[0]?.source ?? "", { omit: ["mtimeNs"] });
  };
  const whole = await treeOf("undisturbed", (call) => call());
  for (const [index, name] of (["snapshots", "snapshots", "snapshots", "content", "metadata"] as const).entries()) {
    assert.deepEqual(await treeOf(`apply-${index}`, (call) => killAmid(name, applyMs, call)), whole, name);
  }
});

test("a difference is made once, whichever process dies meanwhile, or the client makes it again under the same ref", async () => {
  const diff = createClient(Diff, daemon.transport);
  const snapshots = createClient(Snapshots, daemon.transport);
  await snapshots.prepare({ snapshotter, key: "below" }, { headers });
  await snapshots.commit({ snapshotter, key: "below", name: "base" }, { headers });
  const { mounts: left } = await snapshots.view({ snapshotter, key: "view", parent: "base" }, { headers });
  const { mounts: right } = await snapshots.prepare({ snapshotter, key: "above", parent: "base" }, { headers });
  const upper = right[0]?.options.find((option) => option.startsWith("upperdir="))?.slice("upperdir=".length) ?? "";
  for (const [index, name] of (["snapshots", "snapshots", "content", "metadata"] as const).entries()) {
    await writeFile(`${upper}/large`, randomBytes(8 * 1024 * 1024));
    const make = async (ref: string): Promise<string | undefined> =>
      (await diff.diff({ left, right, mediaType: `${layerType}+gzip`, ref }, { headers })).diff?.digest;
    const made = await killAmid(name, diffMs, () => make(`diff-${index}`)).catch((error: unknown) => {
      // The bytes that were on their way to it nobody has any more, so that the client is told.
      assert.ok(name === "content" && isFailure(error, ErrorKind.Unavailable), String(error));
      return running(name).then(() => make(`diff-${index}`));
    });
    assert.equal(made, await make(`again-${index}`), name);
    assert.deepEqual(await ingests(), [], name);
  }
});

test("an ingest is aborted once, whenever its process dies", async () => {
  const content = createClient(Content, daemon.transport);
  for (const ref of ["one", "two", "three", "four", "five"]) {
    const call = new WriteCall(content, { namespace, lease });
    await call.stat({ ref });
    await call.write(randomBytes(1000), 0n);
    await call.finish();
    await killAmid("content", abortMs, () => content.abort({ ref }, { headers }));
    assert.deepEqual(await ingests(), []);
  }
});

test("what is published and forwarded is told once and in order while events and nats-server die", async () => {
  const events = createClient(Events, daemon.transport);
  const publishers = ["p0", "p1", "p2", "p3"];
  await using subscriber = await Subscriber.start(daemon.transport, {
    filters: [`namespace==${namespace},topic~="^/p"`],
  });
  const event = { typeUrl: "test.Any", value: new Uint8Array(10) };
  const stop = new AbortController();
  const told = Promise.all(
    publishers.map(async (publisher) => {
      const topics: string[] = [];
      for (let number = 0; !stop.signal.aborted; number += 1) {
        const topic = `/${publisher}/n${number}`;
        if (number % 2 === 0) {
          await events.publish({ topic, event }, { headers });
        } else {
          const timestamp = { seconds: BigInt(number), nanos: 1 };
          await events.forward({ envelope: { namespace, topic, timestamp, event } }, { headers });
        }
        topics.push(topic);
      }
      return topics;
    }),
  );
  try {
    for (const name of ["events", "nats-server", "events", "nats-server", "events"] as const) {
      await killAmid(name, publishMs, () => events.publish({ topic: "/between", event }, { headers }));
    }
  } finally {
    stop.abort();
  }
  const expected = await told;
  assert.ok(
    expected.every((topics) => topics.length > 5),
    "little was published",
  );
  const heard = await subscriber.topics(expected.flat().length);
  for (const [index, publisher] of publishers.entries()) {
    assert.deepEqual(
      heard.filter((topic) => topic.startsWith(`/${publisher}/`)),
      expected[index],
    );
  }
});

test("records and files fit, and nothing worse than the deaths is told", async () => {
  await createClient(Leases, daemon.transport).delete({ id: lease }, { headers: clientHeaders(namespace) });
  assert.deepEqual(await findInconsistencies(daemon, { namespace }), []);
  assert.deepEqual(faultsIn(daemon.log()), []);
});
