import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, statSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { privateSocketOf } from "#fleet/process-name.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { SnapshotKind } from "#gen/flotilla/index/v1/index_pb.ts";
import { SnapshotDirectories } from "#gen/flotilla/snapshots/v1/directories_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import { serveRpc } from "#wire/server.ts";
import { compiledCode } from "../kit/compiled-code.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { MemorySnapshotIndex } from "./snapshots-index.ts";

const program = fileURLToPath(new URL("../../services/snapshots/main.ts", import.meta.url));
const headers = clientHeaders("test", "some-lease");
const overlayfs = "overlayfs";

test("a snapshot is recorded with lease and labels, made, committed with its usage, and is a parent then", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { client, index } = snapshots;
  const { mounts } = await client.prepare({ snapshotter: overlayfs, key: "a", labels: { color: "blue" } }, { headers });
  const [mount] = mounts;
  assert.deepEqual(
    { ...mount, $typeName: undefined },
    { $typeName: undefined, type: "bind", source: snapshots.filesOf(1n), target: "", options: ["rw", "rbind"] },
  );
  const { namespace, lease, kind, labels } = index.prepared[0] ?? {};
  assert.deepEqual(
    { namespace, lease, kind, labels },
    {
      namespace: "test",
      lease: "some-lease",
      kind: SnapshotKind.ACTIVE,
      labels: { color: "blue" },
    },
  );
  await writeFile(`${snapshots.filesOf(1n)}/file`, "x".repeat(5000));
  const active = await client.usage({ snapshotter: overlayfs, key: "a" }, { headers });
  assert.equal(active.inodes, 2n);
  await client.commit({ snapshotter: overlayfs, key: "a", name: "layer", labels: { shape: "round" } }, { headers });
  assert.deepEqual(index.committed[0]?.labels, { shape: "round" });
  assert.equal(index.committed[0]?.usage?.inodes, 2n);
  const stored = await client.usage({ snapshotter: overlayfs, key: "layer" }, { headers });
  assert.equal(stored.inodes, 2n);
  assert.ok(stored.size >= 8192n);
  const view = await client.view({ snapshotter: overlayfs, key: "v", parent: "layer" }, { headers });
  assert.deepEqual(view.mounts[0]?.options, ["ro", "rbind"]);
  assert.equal(view.mounts[0]?.source, snapshots.filesOf(1n));
  assert.deepEqual((await client.mounts({ snapshotter: overlayfs, key: "v" }, { headers })).mounts, view.mounts);
  assert.equal((await client.usage({ snapshotter: overlayfs, key: "v" }, { headers })).inodes, 0n);
});

test("preparing and committing take one call of the index each, and a key that was removed is not mistaken", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { client, index } = snapshots;
  await client.prepare({ snapshotter: overlayfs, key: "a" }, { headers });
  await client.commit({ snapshotter: overlayfs, key: "a", name: "one" }, { headers });
  assert.deepEqual(index.resolved, []);
  assert.equal(index.committed[0]?.usage?.inodes, 1n);
  await client.prepare({ snapshotter: overlayfs, key: "a" }, { headers });
  index.snapshots.delete("overlayfs/a");
  await rm(`${snapshots.root(overlayfs)}/snapshots/2`, { recursive: true });
  await assert.rejects(client.commit({ snapshotter: overlayfs, key: "a", name: "two" }, { headers }), {
    message: "snapshot a does not exist: not found",
  });
  await client.prepare({ snapshotter: overlayfs, key: "a" }, { headers });
  await snapshots.restart();
  await client.commit({ snapshotter: overlayfs, key: "a", name: "two" }, { headers });
  assert.equal(index.committed.at(-1)?.usage?.inodes, 1n);
});

test("errors have containerd's classes and texts", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { client } = snapshots;
  await client.prepare({ snapshotter: overlayfs, key: "a" }, { headers });
  await client.commit({ snapshotter: overlayfs, key: "a", name: "layer" }, { headers });
  await client.view({ snapshotter: overlayfs, key: "view", parent: "layer" }, { headers });
  const cases: [() => Promise<unknown>, ErrorKind, string][] = [
    [
      () => client.prepare({ key: "k" }, { headers }),
      ErrorKind.InvalidArgument,
      "snapshotter argument missing: invalid argument",
    ],
    [
      () => client.mounts({ snapshotter: "zfs", key: "k" }),
      ErrorKind.InvalidArgument,
      "snapshotter not loaded: zfs: invalid argument",
    ],
    [
      () => client.view({ snapshotter: overlayfs, key: "k" }),
      ErrorKind.FailedPrecondition,
      "namespace is required: failed precondition",
    ],
    [
      () => client.mounts({ snapshotter: overlayfs, key: "layer" }, { headers }),
      ErrorKind.FailedPrecondition,
      "requested snapshot layer not active or view: failed precondition",
    ],
    [
      () => client.mounts({ snapshotter: overlayfs, key: "none" }, { headers }),
      ErrorKind.NotFound,
      "snapshot none does not exist: not found",
    ],
    [
      () => client.commit({ snapshotter: overlayfs, key: "view", name: "n" }, { headers }),
      ErrorKind.FailedPrecondition,
      'snapshot "view" is not active: failed precondition',
    ],
    [
      () => client.commit({ snapshotter: overlayfs, key: "none", name: "n" }, { headers }),
      ErrorKind.NotFound,
      "snapshot none does not exist: not found",
    ],
    [
      () => client.cleanup({ snapshotter: overlayfs }, { headers }),
      ErrorKind.NotImplemented,
      "snapshotter does not implement Cleanup method: not implemented",
    ],
  ];
  for (const [call, kind, message] of cases) {
    await assert.rejects(call(), (error) => {
      assert.ok(error instanceof Error);
      assert.equal(error.message, message);
      return isFailure(error, kind);
    });
  }
});

test("a snapshot that cannot be made leaves no record", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { client, index } = snapshots;
  await client.prepare({ snapshotter: overlayfs, key: "a" }, { headers });
  await client.commit({ snapshotter: overlayfs, key: "a", name: "layer" }, { headers });
  await rm(`${snapshots.root(overlayfs)}/snapshots/1`, { recursive: true });
  await assert.rejects(client.prepare({ snapshotter: overlayfs, key: "b", parent: "layer" }, { headers }), (error) =>
    isFailure(error, ErrorKind.NotFound),
  );
  assert.deepEqual([...index.snapshots.keys()], ["overlayfs/layer"]);
  assert.deepEqual(readdirSync(`${snapshots.root(overlayfs)}/snapshots`), []);
});

test("a mapping of ids changes the owner of the top directory and shows in the mounts", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { client } = snapshots;
  const labels = {
    "containerd.io/snapshot/uidmapping": "0:1000:65536",
    "containerd.io/snapshot/gidmapping": "5:1:1,0:2000:5",
  };
  const { mounts } = await client.prepare({ snapshotter: overlayfs, key: "a", labels }, { headers });
  assert.deepEqual(mounts[0]?.options, ["uidmap=0:1000:65536", "gidmap=5:1:1,0:2000:5", "rw", "rbind"]);
  const { uid, gid } = statSync(snapshots.filesOf(1n));
  assert.deepEqual({ uid, gid }, { uid: 1000, gid: 2000 });
  const bad = { "containerd.io/snapshot/uidmapping": "1:1000:5" };
  await assert.rejects(client.prepare({ snapshotter: overlayfs, key: "b", labels: bad }, { headers }), {
    message: "failed to find root pair: container ID 0 cannot be mapped to a host ID",
  });
});

test("the collector's removals delete directories and may be repeated", async () => {
  await using snapshots = await SnapshotsProcess.start();
  for (const key of ["a", "b", "c"]) {
    await snapshots.client.prepare({ snapshotter: overlayfs, key }, { headers });
  }
  const directories = createClient(SnapshotDirectories, snapshots.connection.transport);
  const ids = [3n, 1n, 77n];
  assert.deepEqual((await directories.removeSnapshots({ snapshotter: overlayfs, ids })).removedIds, ids);
  assert.deepEqual((await directories.removeSnapshots({ snapshotter: overlayfs, ids })).removedIds, ids);
  assert.deepEqual(readdirSync(`${snapshots.root(overlayfs)}/snapshots`), ["2"]);
});

test("directories and records agree before the process serves, whatever a crash has left", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { client, index } = snapshots;
  await client.prepare({ snapshotter: overlayfs, key: "base" }, { headers });
  await client.commit({ snapshotter: overlayfs, key: "base", name: "layer" }, { headers });
  await client.prepare({ snapshotter: overlayfs, key: "active", parent: "layer" }, { headers });
  await writeFile(`${snapshots.filesOf(2n)}/kept`, "kept");
  await snapshots.kill();
  const labels = {};
  index.snapshots.set("overlayfs/unmade", { id: 50n, kind: SnapshotKind.ACTIVE, parent: "layer", labels });
  index.snapshots.set("native/unmade", { id: 9n, kind: SnapshotKind.VIEW, parent: "", labels });
  index.snapshots.set("overlayfs/lost", { id: 51n, kind: SnapshotKind.COMMITTED, parent: "", labels });
  await mkdir(`${snapshots.root(overlayfs)}/snapshots/60/fs`, { recursive: true });
  await mkdir(`${snapshots.root(overlayfs)}/snapshots/new-61-abc/fs`, { recursive: true });
  await snapshots.restart();
  assert.deepEqual(readdirSync(`${snapshots.root(overlayfs)}/snapshots`).sort(), ["1", "2", "50"]);
  assert.deepEqual(readdirSync(`${snapshots.root(overlayfs)}/unknown-snapshots`), ["60"], "nothing is deleted");
  assert.match(snapshots.log, /"ids":\["60"\].*put aside directories without a record/);
  assert.deepEqual(readdirSync(`${snapshots.root("native")}/snapshots`), ["9"]);
  assert.equal(await readFile(`${snapshots.filesOf(2n)}/kept`, "utf8"), "kept");
  assert.match(snapshots.log, /"id":"51".*the directory of a committed snapshot is gone/);
  const named = index.reconciled
    .at(-1)
    ?.snapshotters.map(({ name }) => name)
    .sort();
  assert.deepEqual(
    named?.filter((name) => name !== "erofs"),
    ["native", overlayfs],
  );
});

test("when the records are lost no directory is touched, and no id is given out again", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { client, index } = snapshots;
  for (const key of ["a", "b", "c"]) {
    await client.prepare({ snapshotter: overlayfs, key }, { headers });
  }
  await writeFile(`${snapshots.filesOf(2n)}/kept`, "kept");
  await snapshots.kill();
  index.snapshots.clear();
  await snapshots.restart();
  assert.deepEqual(readdirSync(`${snapshots.root(overlayfs)}/snapshots`).sort(), ["1", "2", "3"]);
  assert.equal(await readFile(`${snapshots.filesOf(2n)}/kept`, "utf8"), "kept");
  assert.match(snapshots.log, /"count":3.*as if the records were lost: nothing is touched/);
});

test("an active snapshot whose directory a crash prevented is made when it is mounted", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { client, index } = snapshots;
  index.snapshots.set("overlayfs/unmade", { id: 7n, kind: SnapshotKind.ACTIVE, parent: "", labels: {} });
  await client.mounts({ snapshotter: overlayfs, key: "unmade" }, { headers });
  assert.ok(existsSync(snapshots.filesOf(7n)));
});

test("plugins tell what became of them, and one that fails leaves the others", async () => {
  await using snapshots = await SnapshotsProcess.start(`
    [plugins."io.containerd.snapshotter.v1.overlayfs"]
      root_path = "/tmp/with:colon"
  `);
  const { plugins } = await createClient(Member, snapshots.connection.transport).describe({});
  const find = (uri: string): (typeof plugins)[number] | undefined =>
    plugins.find(({ type, id }) => `${type}.${id}` === uri);
  const failed = find("io.containerd.snapshotter.v1.overlayfs");
  assert.match(failed?.initErr?.message ?? "", /root_path .*: invalid argument$/);
  const native = find("io.containerd.snapshotter.v1.native");
  assert.equal(native?.initErr, undefined);
  assert.equal(native?.exports["root"], snapshots.root("native"));
  assert.equal(native?.platforms[0]?.os, "linux");
  assert.deepEqual(find("io.containerd.grpc.v1.snapshots")?.requires, ["io.containerd.service.v1"]);
  assert.ok(find("io.containerd.service.v1.snapshots-service"));
  await snapshots.client.prepare({ snapshotter: "native", key: "a" }, { headers });
  await assert.rejects(snapshots.client.prepare({ snapshotter: overlayfs, key: "a" }, { headers }), (error) =>
    isFailure(error, ErrorKind.InvalidArgument),
  );
});

test("snapshotters that do not fit the machine are skipped for containerd's reasons", async () => {
  await using snapshots = await SnapshotsProcess.start();
  const { plugins } = await createClient(Member, snapshots.connection.transport).describe({});
  const reason = (id: string): string | undefined =>
    plugins.find((plugin) => plugin.type === "io.containerd.snapshotter.v1" && plugin.id === id)?.initErr?.message;
  assert.equal(reason("blockfile"), "no scratch file generator: skip plugin");
  assert.match(
    reason("btrfs") ?? "",
    /^path \S+ \(\w+\) must be a btrfs filesystem to be used with the btrfs snapshotter: skip plugin$/,
  );
});

test("a disabled snapshotter is not there", async () => {
  await using snapshots = await SnapshotsProcess.start(`disabled_plugins = ["io.containerd.snapshotter.v1.native"]`);
  const { plugins } = await createClient(Member, snapshots.connection.transport).describe({});
  const drivers = plugins.filter(
    ({ type, initErr }) => type === "io.containerd.snapshotter.v1" && initErr === undefined,
  );
  assert.deepEqual(
    drivers.map(({ id }) => id).filter((id) => id !== "erofs"),
    [overlayfs],
  );
  assert.deepEqual(drivers[0]?.capabilities.includes("only-remap-ids"), true);
  assert.ok(!existsSync(snapshots.root("native")));
});

/** A snapshots process on a directory of its own, with an index in memory beside it. */
class SnapshotsProcess implements AsyncDisposable {
  readonly index: MemorySnapshotIndex;
  readonly connection: RpcConnection;
  readonly client: ReturnType<typeof createClient<typeof Snapshots>>;
  /** What the process has logged so far. */
  log = "";
  readonly #directory: TemporaryDirectory;
  readonly #resources: AsyncDisposableStack;
  #child: ChildProcess;

  private constructor(directory: TemporaryDirectory, index: MemorySnapshotIndex, resources: AsyncDisposableStack) {
    this.index = index;
    this.#directory = directory;
    this.#resources = resources;
    this.connection = resources.adopt(
      connectRpc(privateSocketOf(`${directory.path}/state`, "snapshots")),
      (connection) => connection.close(),
    );
    this.client = createClient(Snapshots, this.connection.transport);
    this.#child = this.#spawn();
  }

  /** Starts the process and waits until it serves. */
  static async start(config = ""): Promise<SnapshotsProcess> {
    await using resources = new AsyncDisposableStack();
    const directory = resources.use(await makeTemporaryDirectory("snp"));
    await writeFile(`${directory.path}/config.toml`, `version = 3\n${config}\n[debug]\nformat = "json"\n`);
    const index = new MemorySnapshotIndex();
    const server = await serveRpc({
      socketPath: privateSocketOf(`${directory.path}/state`, "metadata"),
      services: index.bindings(),
    });
    resources.defer(() => server.close(0));
    const started = new SnapshotsProcess(directory, index, resources.move());
    await started.#ready();
    return started;
  }

  root(snapshotter: string): string {
    return `${this.#directory.path}/root/io.containerd.snapshotter.v1.${snapshotter}`;
  }

  /** Where overlayfs keeps the files of a snapshot. */
  filesOf(id: bigint): string {
    return `${this.root(overlayfs)}/snapshots/${id}/fs`;
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await exited;
    }
  }

  async restart(): Promise<void> {
    await this.kill();
    this.#child = this.#spawn();
    await this.#ready();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#resources.disposeAsync();
  }

  async #ready(): Promise<void> {
    try {
      await createClient(Health, this.connection.transport).check({});
    } catch (error) {
      await this.kill();
      throw new Error(`the process did not start:\n${this.log}`, { cause: error });
    }
  }

  #spawn(): ChildProcess {
    const { path } = this.#directory;
    const args = ["--config", `${path}/config.toml`, "--root", `${path}/root`, "--state", `${path}/state`];
    const child = spawn(process.execPath, [program, ...args], {
      env: { ...process.env, ...compiledCode },
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.log += text;
    });
    return child;
  }
}
