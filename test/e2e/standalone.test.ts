import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Kind, Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { Standalone } from "../kit/standalone.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

let directory: TemporaryDirectory;
let leaks: LeakSnapshot;

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("alone");
});

after(async () => {
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** Imports busybox into a snapshotter, runs it, and removes all again. */
async function useDaemon(daemon: Daemon, snapshotter: string): Promise<void> {
  const image = await busyboxImage();
  const imported = await daemon.ctr("images", "import", "--snapshotter", snapshotter, image.tar);
  assert.equal(imported.exitCode, 0, imported.stderr);
  const run = await daemon.ctr("run", "--rm", "--snapshotter", snapshotter, image.name, "c1", "echo", "hello");
  assert.equal(run.stdout, "hello\n", run.stderr);
  const listed = await daemon.ctr("snapshots", "--snapshotter", snapshotter, "ls");
  assert.match(listed.stdout, /sha256:\w+ +Committed/);
  const removed = await daemon.ctr("images", "rm", "--sync", image.name);
  assert.equal(removed.exitCode, 0, removed.stderr);
}

for (const [name, start] of [
  ["the real containerd", startContainerd],
  ["Flotilla", startFlotilla],
] as const) {
  for (const driver of ["overlayfs", "native"]) {
    test(`${name} uses our snapshotter ${driver} by itself as a proxy plugin`, async () => {
      const root = `${directory.path}/${driver}-${name.length}`;
      await using alone = await Standalone.start("snapshots", `${root}.sock`, root, "--driver", driver);
      await using daemon = await start({
        config: `[proxy_plugins.ours]\ntype = "snapshot"\naddress = "${alone.address}"`,
      });
      await useDaemon(daemon, "ours");
      const left: string[] = [];
      for await (const { info } of createClient(Snapshots, alone.transport).list({})) {
        left.push(...info.map((each) => each.name));
      }
      assert.deepEqual(left, []);
      assert.deepEqual(readdirSync(`${root}/snapshots`), []);
      assert.equal(await alone.stop(), 0);
    });
  }
}

for (const [name, start] of [
  ["the real containerd", startContainerd],
  ["Flotilla", startFlotilla],
] as const) {
  test(`${name} uses our content store by itself as its content store`, async () => {
    const root = `${directory.path}/content-${name.length}`;
    await using alone = await Standalone.start("content", `${root}.sock`, root);
    await using daemon = await start({
      config: `[proxy_plugins.ours]
type = "content"
address = "${alone.address}"
${name === "Flotilla" ? '[plugins."io.flotilla.content.v1.copies"]\nbytes_max = 1' : ""}`,
      disabledPlugins: ["io.containerd.content.v1.content"],
    });
    const image = await busyboxImage();
    const imported = await daemon.ctr("images", "import", "--snapshotter", "native", image.tar);
    assert.equal(imported.exitCode, 0, imported.stderr);
    assert.ok(readdirSync(`${root}/blobs/sha256`).length >= 3);
    if (name === "Flotilla") {
      // What lies with us is a copy, which goes when there are too many that nobody uses, and comes back when it is wanted.
      const copies = `${daemon.root}/io.containerd.content.v1.content/proxied/ours/blobs/sha256`;
      assert.ok(readdirSync(copies).length >= 3);
      await daemon.stop();
      await daemon.start();
      assert.deepEqual(readdirSync(copies), []);
    }
    const run = await daemon.ctr("run", "--rm", "--snapshotter", "native", image.name, "c1", "echo", "hello");
    assert.equal(run.stdout, "hello\n", run.stderr);
    const { stdout } = await daemon.ctr("content", "get", image.manifest.digest);
    assert.match(stdout, /"schemaVersion": ?2/);
    assert.match((await daemon.ctr("plugins", "ls")).stdout, /io\.containerd\.content\.v1 +ours +\S+ +ok/);
    const removed = await daemon.ctr("images", "rm", "--sync", image.name);
    assert.equal(removed.exitCode, 0, removed.stderr);
    assert.deepEqual(readdirSync(`${root}/blobs/sha256`), []);
  });
}

test("with two content stores, or none, the daemon does not start, and says why", async () => {
  const config = `[proxy_plugins.ours]\ntype = "content"\naddress = "${directory.path}/none.sock"`;
  await assert.rejects(startFlotilla({ config }), /multiple plugins registered for io\.containerd\.content\.v1/);
  const disabledPlugins = ["io.containerd.content.v1.content"];
  await assert.rejects(startFlotilla({ disabledPlugins }), /no plugins registered for io\.containerd\.content\.v1/);
});

test("our snapshotter by itself keeps its records over a crash, and rebases", async () => {
  const root = `${directory.path}/crash`;
  const snapshotter = "whatever";
  const socket = `${root}.sock`;
  {
    await using alone = await Standalone.start("snapshots", socket, root);
    const client = createClient(Snapshots, alone.transport);
    await client.prepare({ snapshotter, key: "a", labels: { x: "1" } });
    await client.commit({ snapshotter, name: "base", key: "a", labels: { y: "2" } });
    await client.prepare({ snapshotter, key: "b" });
    await client.commit({ snapshotter, name: "top", key: "b", parent: "base" });
    await assert.rejects(client.remove({ key: "base" }), {
      message: "cannot remove snapshot with child: failed precondition",
    });
    await assert.rejects(client.prepare({ snapshotter, key: "top" }), (error) =>
      isFailure(error, ErrorKind.AlreadyExists),
    );
    await alone.stop("SIGKILL");
  }
  await using alone = await Standalone.start("snapshots", socket, root);
  const client = createClient(Snapshots, alone.transport);
  const { info } = await client.stat({ key: "top" });
  assert.deepEqual([info?.kind, info?.parent], [Kind.COMMITTED, "base"]);
  await client.update({ info: { name: "top", labels: { z: "3" } } });
  assert.deepEqual((await client.stat({ key: "top" })).info?.labels, { z: "3" });
  const { mounts } = await client.view({ snapshotter, key: "v", parent: "top" });
  assert.equal(mounts[0]?.type, "overlay");
  const found: string[] = [];
  for await (const page of client.list({ filters: ["kind==committed"] })) {
    found.push(...page.info.map(({ name }) => name));
  }
  assert.deepEqual(found, ["base", "top"]);
  for (const key of ["v", "top", "base"]) {
    await client.remove({ key });
  }
  await assert.rejects(client.stat({ key: "base" }), (error) => isFailure(error, ErrorKind.NotFound));
});

test("what is missing or wrong on the command line is said", async () => {
  for (const [part, flags, message] of [
    ["snapshots", ["--driver", "magic"], /there is no driver .*magic/],
    ["content", ["--log-level", "loud"], /there is no log level/],
  ] as const) {
    await assert.rejects(
      async () => {
        await using alone = await Standalone.start(part, `${directory.path}/x.sock`, `${directory.path}/x`, ...flags);
        await alone.stop();
      },
      (error: unknown) => error instanceof Error && message.test(error.message),
    );
  }
});
