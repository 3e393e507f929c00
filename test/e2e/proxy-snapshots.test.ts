import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Kind, Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { type Registry, startRegistry } from "../kit/registry.ts";
import { SnapshotBackend } from "../kit/snapshot-backend.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { TransferClient } from "../kit/transfer-client.ts";

const snapshotter = "far";
/** Keeps the collector from what has no lease. */
const root = { "containerd.io/gc.root": "1" };
const refLabel = "containerd.io/snapshot.ref";

let daemon: Daemon;
let directory: TemporaryDirectory;
let backend: SnapshotBackend;
let stuck: SnapshotBackend;
let registry: Registry;
let leaks: LeakSnapshot;

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("proxied");
  backend = await SnapshotBackend.serve(`${directory.path}/far.sock`, `${directory.path}/far`);
  stuck = await SnapshotBackend.serve(`${directory.path}/stuck.sock`, `${directory.path}/stuck`);
  registry = await startRegistry();
  daemon = await startFlotilla({
    config: `
[timeouts]
  "io.flotilla.timeout.proxy.call" = "2s"
[proxy_plugins.far]
  type = "snapshot"
  address = "${directory.path}/far.sock"
  capabilities = ["remap-ids"]
  [proxy_plugins.far.exports]
    enable_remote_snapshot_annotations = "true"
[proxy_plugins.stuck]
  type = "io.containerd.snapshotter.v1"
  address = "unix://${directory.path}/stuck.sock"
  platform = "linux/riscv64"
[proxy_plugins.absent]
  type = "snapshot"
  address = "${directory.path}/absent.sock"
[proxy_plugins.odd]
  type = "magic"
  address = "${directory.path}/odd.sock"
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "${hostPlatform().os}/${hostPlatform().architecture}"
  snapshotter = "${snapshotter}"
`,
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await backend?.[Symbol.asyncDispose]();
  await stuck?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

const snapshots = () => createClient(Snapshots, daemon.transport);

test("introspection and ctr show proxy plugins, and the log one of an unknown type", async () => {
  const { plugins } = await createClient(Introspection, daemon.transport).plugins({
    filters: ["type==io.containerd.snapshotter.v1"],
  });
  const shown = (id: string) => plugins.find((plugin) => plugin.id === id);
  assert.deepEqual(shown("far")?.exports, {
    address: `${directory.path}/far.sock`,
    enable_remote_snapshot_annotations: "true",
  });
  assert.deepEqual(shown("far")?.capabilities, ["remap-ids"]);
  assert.deepEqual(
    shown("far")?.platforms.map(({ os, architecture }) => `${os}/${architecture}`),
    [`${hostPlatform().os}/${hostPlatform().architecture}`],
  );
  assert.equal(shown("far")?.initErr, undefined);
  assert.deepEqual(
    shown("stuck")?.platforms.map(({ os, architecture }) => `${os}/${architecture}`),
    ["linux/riscv64"],
  );
  assert.match((await daemon.ctr("plugins", "ls")).stdout, /io\.containerd\.snapshotter\.v1 +far +linux\/\S+ +ok/);
  assert.match(daemon.log(), /unknown proxy plugin type/);
});

test("a proxied snapshotter gets names of ours, inherited labels and the namespace, and its mounts pass through", async () => {
  const namespace = uniqueNamespace();
  const headers = clientHeaders(namespace);
  const labels = { "containerd.io/snapshot/x": "1", mine: "2" };
  const { mounts } = await snapshots().prepare({ snapshotter, key: "a", labels }, { headers });
  const [name = ""] = [...backend.kept.keys()].filter((each) => each.startsWith(`${namespace}/`));
  assert.match(name, new RegExp(`^${namespace}/\\d+/a$`));
  assert.deepEqual(backend.kept.get(name)?.labels, { "containerd.io/snapshot/x": "1" });
  assert.ok(backend.calls.includes(`prepare ${namespace}`));
  assert.match(mounts[0]?.source ?? "", new RegExp(`^${directory.path}/far/`));
  assert.deepEqual((await snapshots().mounts({ snapshotter, key: "a" }, { headers })).mounts, mounts);
  assert.deepEqual((await snapshots().stat({ snapshotter, key: "a" }, { headers })).info?.labels, labels);
  const usage = await snapshots().usage({ snapshotter, key: "a" }, { headers });
  assert.deepEqual([usage.size, usage.inodes], [12_345n, 6n]);

  const info = { name: "a", labels: { "containerd.io/snapshot/y": "3", mine: "4" } };
  await snapshots().update({ snapshotter, info }, { headers });
  assert.deepEqual(backend.kept.get(name)?.labels, { "containerd.io/snapshot/y": "3" });

  await assert.rejects(snapshots().prepare({ snapshotter, key: "a" }, { headers }), {
    message: 'snapshot "a": already exists',
  });
  await snapshots().commit({ snapshotter, name: "layer", key: "a", labels: {} }, { headers });
  const id = /\/(\d+)\//.exec(name)?.[1];
  assert.equal(backend.kept.get(`${namespace}/${id}/layer`)?.kind, Kind.COMMITTED);
  await snapshots().view({ snapshotter, key: "v", parent: "layer" }, { headers });
  await assert.rejects(snapshots().remove({ snapshotter, key: "layer" }, { headers }), {
    message: "cannot remove snapshot with child: failed precondition",
  });
  await assert.rejects(snapshots().cleanup({ snapshotter }, { headers }), {
    message: "snapshotter does not implement Cleanup method: not implemented",
  });
  await snapshots().remove({ snapshotter, key: "v" }, { headers });
  await snapshots().remove({ snapshotter, key: "layer" }, { headers });
  await collect(namespace);
  assert.deepEqual(
    [...backend.kept.keys()].filter((each) => each.startsWith(`${namespace}/`)),
    [],
  );
  assert.ok(backend.calls.some((call) => call.startsWith("cleanup ")));
});

test("what the snapshotter has by itself is recorded, shared by namespaces, and removed with the last of them", async () => {
  const target = "sha256:remote";
  backend.remote.add(target);
  const namespaces = [uniqueNamespace(), uniqueNamespace()] as const;
  for (const namespace of namespaces) {
    const headers = clientHeaders(namespace);
    await assert.rejects(
      snapshots().prepare({ snapshotter, key: "extract", labels: { [refLabel]: target, ...root } }, { headers }),
      { message: `target snapshot "${target}" from snapshotter: already exists` },
    );
    const { info } = await snapshots().stat({ snapshotter, key: target }, { headers });
    assert.equal(info?.kind, Kind.COMMITTED);
    assert.deepEqual(info.labels, { [refLabel]: target, ...root, "example.io/remote": "yes" });
    await assert.rejects(snapshots().stat({ snapshotter, key: "extract" }, { headers }), (error) =>
      isFailure(error, ErrorKind.NotFound),
    );
    // The second time nobody has to be asked.
    await assert.rejects(
      snapshots().prepare({ snapshotter, key: "again", labels: { [refLabel]: target } }, { headers }),
      { message: `target snapshot "${target}": already exists` },
    );
  }
  const [first, second] = namespaces;
  await snapshots().remove({ snapshotter, key: target }, { headers: clientHeaders(first) });
  await collect(first);
  assert.ok(backend.kept.has(target), "the other namespace has it still");
  await snapshots().remove({ snapshotter, key: target }, { headers: clientHeaders(second) });
  await collect(second);
  assert.ok(!backend.kept.has(target));
  backend.remote.delete(target);
});

test("an image is pulled into a proxied snapshotter, or found there already, without its bytes", async () => {
  const image = await busyboxImage();
  const reference = await registry.pushImage(image, "far:test");
  const namespace = uniqueNamespace();
  const client = new TransferClient(daemon.transport, namespace);
  await client.pull(reference, { unpacks: [{ platform: hostPlatform(), snapshotter }] });
  const committed = [...backend.kept].find(
    ([name, { kind }]) => name.startsWith(`${namespace}/`) && kind === Kind.COMMITTED,
  );
  const chainId = committed?.[1].labels[refLabel] ?? "";
  assert.match(chainId, /^sha256:/);
  assert.equal(committed?.[1].labels["containerd.io/snapshot/cri.image-ref"], reference);

  const far = uniqueNamespace();
  backend.remote.add(chainId);
  await new TransferClient(daemon.transport, far).pull(reference, {
    unpacks: [{ platform: hostPlatform(), snapshotter }],
  });
  const { info } = await snapshots().stat({ snapshotter, key: chainId }, { headers: clientHeaders(far) });
  assert.equal(info?.kind, Kind.COMMITTED);
  const blobs: string[] = [];
  for await (const page of createClient(Content, daemon.transport).list({}, { headers: clientHeaders(far) })) {
    blobs.push(...page.info.map(({ digest }) => digest));
  }
  assert.ok(blobs.includes(image.manifest.digest));
  assert.ok(!blobs.includes(image.layers[0]?.digest ?? ""), "a layer that is there already is not fetched");
});

test("a snapshotter that is not there fails in time, and is used when it comes", async () => {
  const headers = clientHeaders(uniqueNamespace());
  await assert.rejects(snapshots().prepare({ snapshotter: "absent", key: "a" }, { headers }), (error) =>
    isFailure(error, ErrorKind.Unavailable),
  );
  await using late = await SnapshotBackend.serve(`${directory.path}/absent.sock`, `${directory.path}/absent`);
  await snapshots().prepare({ snapshotter: "absent", key: "a" }, { headers });
  assert.equal(late.kept.size, 1);
});

test("a crash of the snapshots process amid a prepare leaves nothing that is not removed", async () => {
  const namespace = uniqueNamespace();
  const headers = clientHeaders(namespace);
  stuck.isWedged = true;
  const asked = stuck.calls.length;
  const lost = snapshots().prepare({ snapshotter: "stuck", key: "a" }, { headers });
  lost.catch(() => undefined);
  await until(
    () => stuck.calls.length > asked,
    () => "the snapshotter was not asked",
  );
  await daemon.kill9("snapshots");
  await assert.rejects(lost);
  stuck.isWedged = false;
  await snapshots().prepare({ snapshotter: "stuck", key: "a" }, { headers });
  await snapshots().remove({ snapshotter: "stuck", key: "a" }, { headers });
  await collect(namespace);
  assert.deepEqual([...stuck.kept.keys()], []);
});

test("one that accepts calls and never answers holds up nobody but who calls it", async () => {
  const namespace = uniqueNamespace();
  const headers = clientHeaders(namespace);
  /** Sixteen clients at a time, each with calls to all that the one that is stuck has to do with. @returns How long each call took. */
  const work = async (turn: string): Promise<number[]> => {
    const tookMs: number[] = [];
    const timed = async (call: Promise<unknown>): Promise<void> => {
      const beganMs = performance.now();
      await call.catch(() => undefined);
      tookMs.push(performance.now() - beganMs);
    };
    const clients = Array.from({ length: 16 }, async (_none, index) => {
      const own = { headers: clientHeaders(`${namespace}-${index}`) };
      for (let round = 0; round < 8; round += 1) {
        const key = `${turn}-${round}`;
        await timed(snapshots().prepare({ snapshotter: "native", key, labels: root }, own));
        await timed(snapshots().stat({ snapshotter: "native", key }, own));
        await timed(snapshots().remove({ snapshotter: "native", key }, own));
        await timed(snapshots().stat({ snapshotter, key: "none" }, own));
      }
    });
    await Promise.all(clients);
    return tookMs;
  };
  await work("warm");
  const overMs: number[] = [];
  for (let turn = 0; turn < 3; turn += 1) {
    // In turns, so that what else the machine does is in both.
    const normalMs = percentile99(await work(`normal-${turn}`));
    stuck.isWedged = true;
    const calledBefore = stuck.calls.length;
    const held = Array.from({ length: 8 }, (_none, index) =>
      assert.rejects(snapshots().prepare({ snapshotter: "stuck", key: `h${turn}-${index}` }, { headers })),
    );
    await until(
      () => stuck.calls.length > calledBefore,
      () => "it is not called",
    );
    const besideMs = percentile99(await work(`beside-${turn}`));
    stuck.isWedged = false;
    await Promise.all(held);
    // Who waits for one that is stuck does so for seconds; what a busy machine takes from one half of a turn is a part of what calls take there.
    overMs.push(besideMs - normalMs - Math.max(50, normalMs / 2));
  }
  const typicalMs = overMs.toSorted((one, other) => one - other)[1] ?? 0;
  assert.ok(typicalMs <= 0, `calls beside one that is stuck take too long, by ${overMs.join(", ")} ms`);

  stuck.isWedged = true;
  const started = performance.now();
  const stuckCalls = Array.from({ length: 32 }, async (_none, index) => {
    await assert.rejects(
      snapshots().prepare({ snapshotter: "stuck", key: `w${index}` }, { headers }),
      (error: unknown) => isFailure(error, ErrorKind.DeadlineExceeded) && error.message.includes("proxy plugin stuck"),
    );
  });
  await delay(300);
  const others = Array.from({ length: 16 }, async (_none, index) => {
    const own = clientHeaders(`${namespace}-${index}`);
    for (let round = 0; round < 10; round += 1) {
      await snapshots().prepare({ snapshotter: "native", key: `k${round}`, labels: root }, { headers: own });
      await snapshots().remove({ snapshotter: "native", key: `k${round}` }, { headers: own });
      await snapshots()
        .stat({ snapshotter, key: "none" }, { headers: own })
        .catch(() => undefined);
      await collect(`${namespace}-${index}`);
    }
  });
  await Promise.all(others);
  const othersMs = performance.now() - started;
  await Promise.all(stuckCalls);
  // 160 rounds, with a collection each, in the company of 32 calls of 2 s: nobody has waited for one of those.
  const perRoundMs = othersMs / 10;
  assert.ok(perRoundMs < 1_500, `a round of the others took ${perRoundMs} ms`);
  stuck.isWedged = false;
  await snapshots().prepare({ snapshotter: "stuck", key: "well" }, { headers });
  await snapshots().remove({ snapshotter: "stuck", key: "well" }, { headers });
  await until(
    async () => {
      await collect(namespace);
      return stuck.kept.size === 0;
    },
    () => `left: ${[...stuck.kept.keys()].join(", ")}`,
    10_000,
  );
});

/** What 99 of 100 are not above. */
function percentile99(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length * 0.99)] ?? 0;
}

/** Has a collection run and waits for it. */
async function collect(namespace: string): Promise<void> {
  const leases = createClient(Leases, daemon.transport);
  const headers = clientHeaders(namespace);
  const { lease } = await leases.create({ id: `collect-${Math.random()}` }, { headers });
  await leases.delete({ id: lease?.id ?? "", sync: true }, { headers });
}

test("the daemon does not start with a proxy plugin that takes the name of a built-in one, or has no address", async () => {
  for (const [config, message] of [
    ['[proxy_plugins.overlayfs]\ntype = "snapshot"\naddress = "/run/x.sock"', /plugin: id already registered/],
    ['[proxy_plugins.x]\ntype = "snapshot"', /the address must be the path of a socket/],
  ] as const) {
    await assert.rejects(startFlotilla({ config }), message);
  }
});
