import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { execa } from "execa";
import { listBundles } from "../kit/container-traces.ts";
import { startContainerd } from "../kit/daemon.ts";
import { bigImage, busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { startRegistry } from "../kit/registry.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { describeTree } from "../kit/tree.ts";

let leaks: LeakSnapshot;

before(async () => {
  leaks = await snapshotLeaks();
});

after(() => assertNoLeaks(leaks));

test("containerd runs a container of an imported image, tells its events, and is gone with it when disposed of", async () => {
  const namespace = uniqueNamespace();
  const { name, tar } = await busyboxImage();
  await using containerd = await startContainerd();
  const ctr = (...args: string[]) => containerd.ctr("-n", namespace, ...args);
  await using events = await containerd.followEvents();
  const imported = await ctr("images", "import", tar);
  assert.equal(imported.exitCode, 0, imported.stderr);
  const run = await ctr("run", "--rm", name, "one", "sh", "-c", "echo out; echo err >&2; exit 3");
  assert.deepEqual(run, { stdout: "out\n", stderr: "err\n", exitCode: 3 });
  const left = await ctr("run", "-d", name, "two", "sleep", "1000");
  assert.equal(left.exitCode, 0, left.stderr);
  await events.until((lines) =>
    lines.some((line) => line.includes(` ${namespace} /tasks/start `) && line.includes("two")),
  );
  assert.deepEqual(listBundles(containerd.state), [{ namespace, id: "two" }]);
});

test("a container outlives its daemon, is found again by the next one, and goes when the dead daemon is disposed of", async () => {
  const namespace = uniqueNamespace();
  const { name, tar } = await busyboxImage();
  await using containerd = await startContainerd();
  const ctr = (...args: string[]) => containerd.ctr("-n", namespace, ...args);
  await ctr("images", "import", tar);
  await ctr("run", "-d", name, "kept", "sleep", "1000");
  await containerd.kill9("gateway");
  assert.equal(containerd.pidOf("gateway"), undefined);
  await containerd.start();
  assert.match((await ctr("tasks", "ls")).stdout, /^kept\s+\d+\s+RUNNING$/m);
  assert.equal(await containerd.stop(), 0);
});

test("a daemon that cannot start says why", async () => {
  await assert.rejects(startContainerd({ config: "nonsense = [" }), /containerd: .*config\.toml/s);
});

test("images pushed to the registry are pulled as they are", async () => {
  const namespace = uniqueNamespace();
  const image = await bigImage({ layers: 3, sizeMb: 1, files: 400 });
  await using registry = await startRegistry();
  const reference = await registry.pushImage(image, "big:test");
  await using containerd = await startContainerd();
  const pulled = await containerd.ctr("-n", namespace, "images", "pull", "--plain-http", reference);
  assert.equal(pulled.exitCode, 0, pulled.stderr);
  const { stdout } = await containerd.ctr("-n", namespace, "images", "ls");
  assert.ok(stdout.includes(image.manifest.digest));
});

test("the big image unpacks to what it is meant to be, the same way each time", async () => {
  const namespace = uniqueNamespace();
  const { name, tar } = await bigImage({ layers: 3, sizeMb: 1, files: 400 });
  await using containerd = await startContainerd();
  await using directory = await makeTemporaryDirectory("tree");
  const ctr = (...args: string[]) => containerd.ctr("-n", namespace, ...args);
  await ctr("images", "import", tar);
  const mounted = await ctr("images", "mount", name, directory.path);
  assert.equal(mounted.exitCode, 0, mounted.stderr);
  const tree = describeTree(directory.path);
  assert.equal(tree.get("data/l1/d0/f0")?.sizeBytes, 13_105);
  assert.equal(tree.get("data/l1/d0/f1"), undefined, "whiteout");
  assert.equal(tree.get("data/l1/d0/f4")?.type, "directory", "directory over a file");
  assert.deepEqual(
    [...tree.keys()].filter((path) => path.startsWith("data/l1/odd/deep")),
    ["data/l1/odd/deep", "data/l1/odd/deep/only"],
  );
  assert.equal(tree.get("data/l2/odd/attributes-link")?.sameFileAs, "data/l2/odd/attributes");
  assert.equal(tree.get("data/l2/odd/attributes")?.xattrs?.["user.note"], "kept");
  assert.equal(tree.get("data/l2/odd/attributes")?.xattrs?.["user.bytes"], "hex:00ff0a3d");
  assert.equal(tree.get("data/l2/odd/setuid")?.mode, "4755");
  assert.equal(tree.get("data/l2/odd/null")?.device, "1:3");
  assert.equal(tree.get("data/l2/odd/exact")?.mtimeNs, 1_704_067_200_123_456_789n);
  assert.ok(tree.has("data/l2/odd/ὄνομα и имя"));
  assert.equal((await execa("umount", [directory.path])).exitCode, 0);
});

test("what a test leaves behind is found", async () => {
  const directory = await makeTemporaryDirectory("leak");
  const sleeper = execa("sleep", ["1000"], { env: { LEFT_BEHIND: directory.path }, reject: false });
  try {
    await assert.rejects(assertNoLeaks(leaks, { settleMs: 0 }), (error) => {
      assert.ok(error instanceof assert.AssertionError);
      assert.match(String(error.actual), new RegExp(`directory ${directory.path}`));
      assert.match(String(error.actual), new RegExp(`process ${sleeper.pid} sleep 1000`));
      return true;
    });
  } finally {
    sleeper.kill("SIGKILL");
    await sleeper;
    await directory[Symbol.asyncDispose]();
  }
  assert.ok(!existsSync(directory.path));
});
