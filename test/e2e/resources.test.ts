import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { assertParity } from "./parity.ts";

let ours: Daemon;
let theirs: Daemon;
let tar: string;
let leaks: LeakSnapshot;
const image = "docker.io/library/busybox:test";

/** Nothing is collected but when a step asks for it, so that what no reference holds is there as long as it is looked at. */
const config = '[plugins."io.containerd.gc.v1.scheduler"]\nstartup_delay = "1h"';

/** Deleting a lease in this way waits for a collection, which otherwise comes when it comes. */
const collectGarbage = [
  ["leases", "create", "--id", "collect"],
  ["leases", "rm", "--sync", "collect"],
];

before(async () => {
  leaks = await snapshotLeaks();
  tar = (await busyboxImage()).tar;
  [ours, theirs] = await Promise.all([startFlotilla({ config }), startContainerd({ config })]);
});

after(async () => {
  await ours?.[Symbol.asyncDispose]();
  await theirs?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

test("namespaces: create, label, list, remove, and their errors", async () => {
  const namespace = uniqueNamespace();
  await assertParity({ ours, theirs }, namespace, [
    ["namespaces", "create", namespace, "colour=blue"],
    ["namespaces", "create", namespace],
    ["namespaces", "create", "not..valid"],
    ["namespaces", "label", namespace, "colour=red", "size=xl"],
    ["namespaces", "label", namespace, "size="],
    ["namespaces", "ls"],
    ["namespaces", "rm", namespace],
    ["namespaces", "rm", namespace],
    ["namespaces", "ls"],
  ]);
});

test("a namespace in use cannot be removed", async () => {
  const namespace = uniqueNamespace();
  const [, refused] = await assertParity({ ours, theirs }, namespace, [
    ["images", "import", tar],
    ["namespaces", "rm", namespace],
    ["images", "rm", "--sync", image],
    ["snapshots", "ls"],
  ]);
  assert.match(refused?.stderr ?? "", /must be empty, but it still has images, blobs/);
});

test("images: import, list, tag, label, check, export, remove", async () => {
  const namespace = uniqueNamespace();
  const outcomes = await assertParity({ ours, theirs }, namespace, [
    ["images", "import", tar],
    ["images", "ls"],
    ["images", "ls", "-q", `name==${image}`],
    ["images", "ls", "-q", "name~=nothing"],
    ["images", "ls", "name~~bad"],
    ["images", "tag", image, "example.com/copy:1"],
    ["images", "tag", image, "example.com/copy:1"],
    ["images", "label", image, "a=b"],
    ["images", "ls", "-q", "labels.a==b"],
    ["images", "check"],
    ["images", "check", "--snapshotter", "native"],
    ["images", "check", "--snapshotter", "no-such"],
    ["images", "export", "/dev/null", image],
    ["images", "rm", "example.com/copy:1"],
    ["images", "rm", "example.com/copy:1"],
    ["images", "rm", "--sync", image],
    ...collectGarbage,
    ["images", "ls", "-q"],
    ["content", "ls", "-q"],
    ["snapshots", "ls"],
  ]);
  assert.equal(outcomes.at(-2)?.stdout, "", "nothing is left of an image that was removed");
});

test("content: list, get, label, fetch objects, ingests and their errors", async () => {
  const namespace = uniqueNamespace();
  const absent = `sha256:${"0".repeat(64)}`;
  await assertParity({ ours, theirs }, namespace, [
    ["images", "import", tar],
    ...collectGarbage,
    ["content", "ls", "-q"],
    ["content", "ls"],
    ["content", "get", absent],
    ["content", "get", "sha256:short"],
    ["content", "label", absent, "a=b"],
    ["content", "active"],
    ["content", "rm", absent],
    ["content", "prune", "references"],
    ["content", "ls", "-q"],
  ]);
});

test("snapshots: prepare, view, commit, list, tree, info, usage, mounts, diff, remove, and their errors", async () => {
  const namespace = uniqueNamespace();
  await assertParity({ ours, theirs }, namespace, [
    ["snapshots", "prepare", "a"],
    ["snapshots", "prepare", "a"],
    ["snapshots", "commit", "base", "a"],
    ["snapshots", "commit", "base", "a"],
    ["snapshots", "prepare", "b", "base"],
    ["snapshots", "prepare", "c", "no-such-parent"],
    ["snapshots", "view", "v", "base"],
    ["snapshots", "prepare", "d", "b"],
    ["snapshots", "ls"],
    ["snapshots", "tree"],
    ["snapshots", "info", "base"],
    ["snapshots", "info", "absent"],
    ["snapshots", "label", "base", "x=y"],
    ["snapshots", "info", "base"],
    ["snapshots", "usage", "-b"],
    ["snapshots", "rm", "base"],
    ["snapshots", "--snapshotter", "no-such", "ls"],
    ["snapshots", "--snapshotter", "native", "prepare", "n"],
    ["snapshots", "--snapshotter", "native", "ls"],
    ["snapshots", "rm", "v", "b"],
    ["snapshots", "rm", "base"],
    ["snapshots", "rm", "base"],
    ["snapshots", "ls"],
  ]);
});

test("a view cannot be committed", async () => {
  const namespace = uniqueNamespace();
  assert.equal((await ours.ctr("-n", namespace, "snapshots", "view", "v")).exitCode, 0);
  const { stderr } = await ours.ctr("-n", namespace, "snapshots", "commit", "other", "v");
  assert.equal(stderr.trim(), 'ctr: failed to commit snapshot v: snapshot "v" is not active: failed precondition');
  assert.equal((await ours.ctr("-n", namespace, "snapshots", "rm", "v")).exitCode, 0);
});

test("leases: create, list, remove", async () => {
  const namespace = uniqueNamespace();
  await assertParity({ ours, theirs }, namespace, [
    ["leases", "create", "--id", "mine", "--expires", "1h", "a=b"],
    ["leases", "create", "--id", "mine"],
    ["leases", "ls", "-q"],
    ["leases", "ls", "id==other"],
    ["leases", "rm", "mine"],
    ["leases", "rm", "--sync", "absent"],
    ["leases", "ls", "-q"],
  ]);
});

test("containers: create, info, list, label, remove, and their errors", async () => {
  const namespace = uniqueNamespace();
  await assertParity({ ours, theirs }, namespace, [
    ["images", "import", tar],
    ["containers", "create", image, "one"],
    ["containers", "create", image, "one"],
    ["containers", "create", image, "not--valid"],
    ["containers", "ls"],
    ["containers", "ls", "-q", "image~=busybox"],
    ["containers", "label", "one", "a=b"],
    ["containers", "ls", "-q", "labels.a==b"],
    ["containers", "info", "absent"],
    ["containers", "rm", "one"],
    ["containers", "rm", "one"],
    ["containers", "ls", "-q"],
  ]);
});

test("a container's information is the same, member for member", async () => {
  const namespace = uniqueNamespace();
  const infos: unknown[] = [];
  for (const daemon of [ours, theirs]) {
    await daemon.ctr("-n", namespace, "images", "import", tar);
    const created = await daemon.ctr("-n", namespace, "containers", "create", "--env", "A=b", image, "one", "true");
    assert.equal(created.exitCode, 0, created.stderr);
    const { stdout } = await daemon.ctr("-n", namespace, "containers", "info", "one");
    const info = JSON.parse(stdout) as Record<string, unknown>;
    infos.push({ ...info, CreatedAt: undefined, UpdatedAt: undefined });
  }
  assert.deepEqual(infos[0], infos[1]);
});
