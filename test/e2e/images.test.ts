import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { execa } from "execa";
import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { bigImage, busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { type Registry, startRegistry } from "../kit/registry.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { describeTree, type Tree } from "../kit/tree.ts";
import { assertParity } from "./parity.ts";

let ours: Daemon;
let theirs: Daemon;
let registry: Registry;
let directory: TemporaryDirectory;
let leaks: LeakSnapshot;
let big: TestImage;
let reference: string;
const namespace = uniqueNamespace();

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("images");
  registry = await startRegistry();
  big = await bigImage({ layers: 9, sizeMb: 200, files: 20_000 });
  reference = await registry.pushImage(big, "big:test");
  [ours, theirs] = await Promise.all([startFlotilla(), startContainerd()]);
});

after(async () => {
  await ours?.[Symbol.asyncDispose]();
  await theirs?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** The top itself is in no layer of these images, so that its time is when it was made. */
function withoutTop(tree: Tree): Tree {
  return new Map([...tree].filter(([path]) => path !== "."));
}

/** containerd changes the owner of a file once more for each hard link to it, by which the kernel drops its capabilities. */
function withoutCapabilities(tree: Tree): Tree {
  return new Map(
    Array.from(tree, ([path, { xattrs, ...entry }]) => {
      const { "security.capability": _dropped, ...others } = xattrs ?? {};
      return [path, Object.keys(others).length > 0 ? { ...entry, xattrs: others } : entry];
    }),
  );
}

async function mountedTree(daemon: Daemon, image: string, target: string): Promise<Tree> {
  await mkdir(target);
  const mounted = await daemon.ctr("-n", namespace, "images", "mount", image, target);
  assert.equal(mounted.exitCode, 0, mounted.stderr);
  try {
    return withoutTop(describeTree(target));
  } finally {
    const unmounted = await daemon.ctr("-n", namespace, "images", "unmount", "--rm", target);
    assert.equal(unmounted.exitCode, 0, unmounted.stderr);
  }
}

test("a big image is pulled and unpacked to what containerd and umoci make of it", async () => {
  for (const daemon of [ours, theirs]) {
    const pulled = await daemon.ctr("-n", namespace, "images", "pull", "--plain-http", reference);
    assert.equal(pulled.exitCode, 0, pulled.stderr);
    assert.match(pulled.stdout, /done: /);
  }
  const unpacked = await mountedTree(ours, reference, join(directory.path, "ours"));
  assert.ok(unpacked.size > 18_000, `${unpacked.size} entries`);
  const containerds = await mountedTree(theirs, reference, join(directory.path, "theirs"));
  assert.deepEqual(withoutCapabilities(unpacked), withoutCapabilities(containerds));

  const bundle = join(directory.path, "umoci");
  await execa("umoci", ["raw", "unpack", "--image", `${big.layout}:test`, bundle]);
  const names = (tree: Tree): string[] => [...withoutTop(tree).keys()].sort();
  assert.deepEqual(names(unpacked), names(describeTree(bundle)));
});

test("the same image is unpacked the same by the native snapshotter", async () => {
  const unpacked = await ours.ctr(
    "-n",
    namespace,
    "images",
    "pull",
    "--plain-http",
    "--snapshotter",
    "native",
    reference,
  );
  assert.equal(unpacked.exitCode, 0, unpacked.stderr);
  await mkdir(join(directory.path, "native"));
  const target = join(directory.path, "native");
  assert.equal(
    (await ours.ctr("-n", namespace, "images", "mount", "--snapshotter", "native", reference, target)).exitCode,
    0,
  );
  const native = withoutTop(describeTree(target));
  assert.equal((await ours.ctr("-n", namespace, "images", "unmount", target)).exitCode, 0);
  assert.deepEqual(native, await mountedTree(ours, reference, join(directory.path, "again")));
});

test("pull again, push under another name, pull that in another namespace, remove", async () => {
  const copy = reference.replace("big:test", "copy:1");
  const other = uniqueNamespace();
  for (const daemon of [ours, theirs]) {
    for (const step of [
      ["images", "pull", "--plain-http", reference],
      ["images", "tag", reference, copy],
      ["images", "push", "--plain-http", copy],
    ]) {
      const { exitCode, stderr } = await daemon.ctr("-n", namespace, ...step);
      assert.equal(exitCode, 0, stderr);
    }
    const pulled = await daemon.ctr("-n", other, "images", "pull", "--plain-http", copy);
    assert.equal(pulled.exitCode, 0, pulled.stderr);
    const listed = await daemon.ctr("-n", other, "images", "check", "-q");
    assert.equal(listed.stdout.trim(), copy);
    assert.equal((await daemon.ctr("-n", other, "images", "rm", "--sync", copy)).exitCode, 0);
    assert.equal((await daemon.ctr("-n", other, "content", "ls", "-q")).stdout, "");
    assert.equal((await daemon.ctr("-n", namespace, "images", "rm", copy)).exitCode, 0);
  }
});

test("an export imports again, with the same content", async () => {
  const { tar, name } = await busyboxImage();
  const archive = join(directory.path, "export.tar");
  const [from, to] = [uniqueNamespace(), uniqueNamespace()];
  for (const step of [
    ["-n", from, "images", "import", tar],
    ["-n", from, "images", "export", archive, name],
    ["-n", to, "images", "import", archive],
  ]) {
    const { exitCode, stderr } = await ours.ctr(...step);
    assert.equal(exitCode, 0, stderr);
  }
  const targets = await Promise.all(
    [from, to].map(
      async (each) => /sha256:[0-9a-f]{64}/.exec((await ours.ctr("-n", each, "images", "ls")).stdout)?.[0],
    ),
  );
  assert.ok(targets[0] !== undefined);
  assert.equal(targets[1], targets[0]);
  assert.equal((await ours.ctr("-n", to, "run", "--rm", name, "x", "echo", "alive")).stdout, "alive\n");
});

test("content is fetched, read and pushed object by object; ingests are shown and aborted", async () => {
  const small = await registry.pushImage(await busyboxImage(), "busybox:test");
  const fetched = uniqueNamespace();
  for (const daemon of [ours, theirs]) {
    const { exitCode, stderr } = await daemon.ctr(
      "-n",
      fetched,
      "content",
      "fetch",
      "--plain-http",
      "--all-platforms",
      small,
    );
    assert.equal(exitCode, 0, stderr);
  }
  await assertParity({ ours, theirs }, fetched, [
    ["content", "ls", "-q"],
    ["images", "ls", "-q"],
    ["content", "active"],
    ["snapshots", "unpack", "sha256:0000000000000000000000000000000000000000000000000000000000000000"],
    ["images", "pull", "--plain-http", small.replace("test", "absent")],
  ]);
  for (const daemon of [ours, theirs]) {
    const digest = (await daemon.ctr("-n", fetched, "images", "ls", `name==${small}`)).stdout.match(
      /sha256:[0-9a-f]{64}/,
    )?.[0];
    assert.ok(digest !== undefined);
    const manifest = JSON.parse((await daemon.ctr("-n", fetched, "content", "get", digest)).stdout) as {
      layers: { digest: string }[];
    };
    assert.equal(manifest.layers.length, 1);
    const pushed = await daemon.ctr(
      "-n",
      fetched,
      "content",
      "push-object",
      "--plain-http",
      small.replace("busybox:test", `pushed-${daemon === ours}:1`),
      manifest.layers[0]?.digest ?? "",
      "application/octet-stream",
    );
    assert.equal(pushed.exitCode, 0, pushed.stderr);
    const unpacked = await daemon.ctr("-n", fetched, "snapshots", "unpack", digest);
    assert.equal(unpacked.exitCode, 0, unpacked.stderr);
    assert.match((await daemon.ctr("-n", fetched, "snapshots", "ls")).stdout, /Committed/);
  }
});

test("a container's changes come out as a layer", async () => {
  const { tar, name } = await busyboxImage();
  const changed = uniqueNamespace();
  const listings: string[] = [];
  for (const daemon of [ours, theirs]) {
    assert.equal((await daemon.ctr("-n", changed, "images", "import", tar)).exitCode, 0);
    const run = await daemon.ctr(
      "-n",
      changed,
      "run",
      name,
      "w",
      "sh",
      "-c",
      "echo new >/new; rm /etc/passwd; mkdir /d; ln -s /new /d/link; chmod 600 /etc/group",
    );
    assert.equal(run.exitCode, 0, run.stderr);
    const layer = await execa(
      "ctr",
      [
        "-a",
        daemon.address,
        "-n",
        changed,
        "snapshots",
        "diff",
        "--media-type",
        "application/vnd.oci.image.layer.v1.tar",
        "w",
      ],
      { encoding: "buffer" },
    );
    const { stdout } = await execa("tar", ["--list", "--verbose", "--numeric-owner", "--file=-"], {
      input: layer.stdout,
    });
    listings.push(stdout.replace(/\d{4}-\d\d-\d\d \d\d:\d\d/g, "TIME"));
    assert.equal((await daemon.ctr("-n", changed, "containers", "rm", "w")).exitCode, 0);
  }
  assert.equal(listings[0], listings[1]);
  assert.match(listings[0] ?? "", /etc\/\.wh\.passwd/);
});
