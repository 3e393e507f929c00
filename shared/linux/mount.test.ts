import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import test, { type TestContext } from "node:test";
import { type Mount, mountAll, mountFileSystem } from "./mount.ts";
import { readMountInfo } from "./mount-info.ts";
import { cleanTemporaryMounts, withTemporaryMount } from "./temporary-mount.ts";
import { mountPointsBelow, unmountAll, unmountRecursive } from "./unmount.ts";

const tmpfs: Mount = { type: "tmpfs", source: "tmpfs", options: ["size=1m"] };

function temporaryDirectory(context: TestContext): string {
  const path = mkdtempSync(`${tmpdir()}/flotilla-mount-`);
  context.after(async () => {
    await unmountRecursive(path, { detach: true });
    rmSync(path, { recursive: true });
  });
  return path;
}

function bind(source: string, ...options: string[]): Mount {
  return { type: "bind", source, options: ["rbind", ...options] };
}

test("a read-only bind mount is read-only", async (context) => {
  const directory = temporaryDirectory(context);
  mkdirSync(`${directory}/source`);
  mkdirSync(`${directory}/target`);
  writeFileSync(`${directory}/source/file`, "content");
  await mountAll([bind(`${directory}/source`, "ro")], `${directory}/target`);
  assert.equal(readFileSync(`${directory}/target/file`, "utf8"), "content");
  assert.throws(() => writeFileSync(`${directory}/target/new`, ""), { code: "EROFS" });
});

test("a target in a mount cannot lead out of the place that the list goes to", async (context) => {
  const directory = temporaryDirectory(context);
  mkdirSync(`${directory}/root/inside`, { recursive: true });
  mkdirSync(`${directory}/inside`);
  symlinkSync("/inside", `${directory}/root/link`);
  await mountAll([{ ...tmpfs, target: "../../link" }], `${directory}/root`);
  assert.deepEqual(await mountPointsBelow(directory), [`${directory}/root/inside`]);
});

test("propagation is set by a call of its own", async (context) => {
  const directory = temporaryDirectory(context);
  await mountAll([{ ...tmpfs, options: ["shared"] }], directory);
  const mounted = (await readMountInfo()).find(({ mountPoint }) => mountPoint === directory);
  assert.match(mounted?.propagation.join() ?? "", /^shared:/);
});

for (const count of [150, 499]) {
  test(`an overlay may have ${count} layers, more than fit into a page`, async (context) => {
    const directory = temporaryDirectory(context);
    const layers = Array.from({ length: count }, (_, index) => `${directory}/${"long-name-".repeat(5)}/${index}/fs`);
    for (const [index, layer] of layers.entries()) {
      mkdirSync(layer, { recursive: true });
      writeFileSync(`${layer}/file-${index}`, "");
      writeFileSync(`${layer}/all`, String(index));
    }
    mkdirSync(`${directory}/merged`);
    await mountAll(
      [{ type: "overlay", source: "overlay", options: ["ro", `lowerdir=${layers.join(":")}`, "index=off"] }],
      `${directory}/merged`,
    );
    assert.equal(readdirSync(`${directory}/merged`).length, layers.length + 1);
    assert.equal(readFileSync(`${directory}/merged/all`, "utf8"), "0");
  });
}

test("failures have the words of Go and the code of the system", async () => {
  await assert.rejects(mountAll([bind("/does/not/exist")], "/does/not/exist/either"), {
    message:
      'mount source: "/does/not/exist", target: "/does/not/exist/either", fstype: bind, flags: 20480, data: "", err: no such file or directory',
    code: "ENOENT",
    kind: "unknown",
  });
});

test("all mounts of a place are taken off, and none is no error", async (context) => {
  const directory = temporaryDirectory(context);
  await unmountAll(directory);
  await unmountAll(`${directory}/missing`);
  await mountAll([tmpfs, tmpfs], directory);
  mkdirSync(`${directory}/below`);
  await mountAll([tmpfs], `${directory}/below`);
  assert.equal((await mountPointsBelow(directory)).length, 2);
  await unmountRecursive(directory);
  assert.deepEqual(await mountPointsBelow(directory), []);
});

test("a busy mount is waited for and then an error", { timeout: 20_000 }, async (context) => {
  const directory = temporaryDirectory(context);
  await mountAll([tmpfs], directory);
  mkdirSync(`${directory}/below`);
  await mountAll([tmpfs], `${directory}/below`);
  await assert.rejects(unmountAll(directory), { code: "EBUSY" });
});

test("a temporary mount lasts as long as its user, who may fail", async (context) => {
  const directory = temporaryDirectory(context);
  const places: string[] = [];
  const result = await withTemporaryMount([tmpfs], `${directory}/tmp`, (root) => {
    places.push(root);
    writeFileSync(`${root}/file`, "");
    return readdirSync(root);
  });
  assert.deepEqual(result, ["file"]);
  await assert.rejects(
    withTemporaryMount([tmpfs], `${directory}/tmp`, (root) => {
      places.push(root);
      throw new Error("reason");
    }),
    (error: Error) => error.message === `mount callback failed on ${places[1]}: reason`,
  );
  await assert.rejects(
    withTemporaryMount([bind("/does/not/exist")], `${directory}/tmp`, () => "used"),
    {
      message: /^failed to mount .*: no such file or directory$/,
    },
  );
  assert.equal(places.length, 2);
  assert.deepEqual(readdirSync(`${directory}/tmp`), []);
  assert.deepEqual(await mountPointsBelow(directory), []);
});

test("what a crash has left of temporary mounts is cleaned up", async (context) => {
  const directory = temporaryDirectory(context);
  assert.deepEqual(await cleanTemporaryMounts(`${directory}/missing`), []);
  for (const name of ["mounted", "mounted/nested", "empty", "full"]) {
    mkdirSync(`${directory}/${name}`);
    if (name.startsWith("mounted")) {
      await mountAll([tmpfs], `${directory}/${name}`);
    }
  }
  writeFileSync(`${directory}/full/file`, "not ours to delete");
  const failures = await cleanTemporaryMounts(directory);
  assert.equal(failures.length, 1);
  assert.deepEqual(readdirSync(directory), ["full"]);
  assert.ok(existsSync(`${directory}/full/file`));
});

test("a file system that wants a block device in place of a file says so by a name that is known", (context) => {
  const directory = temporaryDirectory(context);
  writeFileSync(`${directory}/image`, "");
  const mount: Mount = { type: "ext4", source: `${directory}/image`, options: ["ro"] };
  assert.throws(() => mountFileSystem(mount, directory), { code: "ENOTBLK" });
});
