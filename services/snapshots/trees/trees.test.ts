import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import test, { type TestContext } from "node:test";
import { Worker } from "node:worker_threads";
import { createSnapshot, createSubvolume } from "#linux/btrfs.ts";
import { asByteString } from "#linux/bytes.ts";
import { DirectoryPath } from "#linux/directory-path.ts";
import { closeFile, makeDirectoryAt, OpenFlag, openAt, succeed, workingDirectory } from "#linux/file.ts";
import { mountOne } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import { measureTree } from "./measure-tree.ts";
import { removeTrees } from "./remove-trees.ts";

function temporaryDirectory(context: TestContext): string {
  const path = mkdtempSync(`${tmpdir()}/flotilla-trees-`);
  context.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Why btrfs cannot be tried here, or false. */
function lacksBtrfs(): string | false {
  if (process.geteuid?.() !== 0 || !readFileSync("/proc/filesystems", "utf8").includes("btrfs")) {
    return "no btrfs, or no root to mount it";
  }
  try {
    execFileSync("mkfs.btrfs", ["--version"]);
    return false;
  } catch {
    return "mkfs.btrfs is not installed";
  }
}

/** Makes directories inside each other, deeper than any path is long. */
function makeDeep(root: string, depth: number): void {
  let below = succeed(openAt(workingDirectory, asByteString(root), OpenFlag.ReadOnly | OpenFlag.Directory), () => root);
  const name = asByteString("d".repeat(50));
  for (let level = 0; level < depth; level += 1) {
    succeed(makeDirectoryAt(below, name, 0o700), () => "mkdir");
    const next = succeed(openAt(below, name, OpenFlag.ReadOnly | OpenFlag.Directory), () => "open");
    closeFile(below);
    below = next;
  }
  closeFile(below);
}

test("a tree is measured as du does it", (context) => {
  const path = temporaryDirectory(context);
  mkdirSync(`${path}/tree/a/b`, { recursive: true });
  writeFileSync(`${path}/tree/a/large`, Buffer.alloc(100_000, 1));
  linkSync(`${path}/tree/a/large`, `${path}/tree/a/b/same`);
  symlinkSync("/usr", `${path}/tree/link`);
  const { sizeBytes, inodes } = measureTree(`${path}/tree`);
  const du = execFileSync("du", ["--summarize", "--block-size=1", `${path}/tree`], { encoding: "utf8" });
  assert.equal(sizeBytes, BigInt(du.split("\t")[0] ?? ""));
  assert.equal(inodes, 5n);
  assert.throws(() => measureTree(`${path}/none`), { code: "ENOENT" });
});

test("what a snapshot has from the tree that it was made of is not counted", {
  skip: lacksBtrfs(),
}, async (context) => {
  const path = temporaryDirectory(context);
  execFileSync("truncate", ["--size=128M", `${path}/disk`]);
  execFileSync("mkfs.btrfs", ["--quiet", `${path}/disk`]);
  mkdirSync(`${path}/mnt`);
  await using mounts = new AsyncDisposableStack();
  mounts.defer(() => unmountAll(`${path}/mnt`));
  await mountOne({ type: "btrfs", source: `${path}/disk`, options: ["loop"] }, `${path}/mnt`);
  const [base, child] = [`${path}/mnt/base`, `${path}/mnt/child`];
  createSubvolume(base);
  for (const name of ["kept", "changed", "gone"]) {
    mkdirSync(`${base}/${name}`);
    writeFileSync(`${base}/${name}/file`, Buffer.alloc(1 << 20, 1));
  }
  createSnapshot(base, child, { readOnly: false });
  assert.equal(measureTree(child, base).inodes, 0n);
  writeFileSync(`${child}/changed/file`, Buffer.alloc(1 << 20, 2));
  rmSync(`${child}/gone`, { recursive: true });
  mkdirSync(`${child}/new/deep`, { recursive: true });
  writeFileSync(`${child}/new/deep/file`, "new");
  execFileSync("sync", ["--file-system", child]);
  const { inodes, sizeBytes } = measureTree(child, base);
  // The top, whose entries changed, the changed file, and what is new with its directories.
  assert.equal(inodes, 5n);
  assert.ok(sizeBytes >= 1n << 20n && sizeBytes < 2n << 20n);
  assert.equal(measureTree(child).inodes, 8n);
});

test("what is deeper than any path, and than the descriptors that a process has, is measured and removed", (context) => {
  const path = temporaryDirectory(context);
  mkdirSync(`${path}/tree`);
  makeDeep(`${path}/tree`, 2_000);
  assert.equal(measureTree(`${path}/tree`).inodes, 2_001n);
  removeTrees([`${path}/none`, `${path}/tree`]);
  assert.throws(() => measureTree(`${path}/tree`), { code: "ENOENT" });
});

test("a directory that is swapped for a link while it is measured is not followed", {
  timeout: 60_000,
}, async (context) => {
  const path = temporaryDirectory(context);
  mkdirSync(`${path}/tree/a`, { recursive: true });
  mkdirSync(`${path}/outside`);
  for (let index = 0; index < 3_000; index += 1) {
    mkdirSync(`${path}/outside/${index}`);
  }
  symlinkSync("../outside", `${path}/link`);
  const swapper = new Worker(
    `const { renameSync } = require("node:fs");
     const path = ${JSON.stringify(path)};
     for (;;) {
       renameSync(path + "/tree/a", path + "/held");
       renameSync(path + "/link", path + "/tree/a");
       renameSync(path + "/tree/a", path + "/link");
       renameSync(path + "/held", path + "/tree/a");
     }`,
    { eval: true },
  );
  try {
    await new Promise((resolve) => swapper.once("online", resolve));
    const end = performance.now() + 2_000;
    for (let rounds = 0; performance.now() < end || rounds < 100; rounds += 1) {
      assert.ok(measureTree(`${path}/tree`).inodes <= 2n);
    }
  } finally {
    await swapper.terminate();
  }
});

test("the way back leads to where it came from, or nowhere", (context) => {
  const path = temporaryDirectory(context);
  mkdirSync(`${path}/tree`);
  const parts = Array.from({ length: 80 }, () => asByteString("x"));
  mkdirSync(`${path}/tree/${parts.join("/")}`, { recursive: true });
  mkdirSync(`${path}/elsewhere`);
  using way = new DirectoryPath(`${path}/tree`);
  assert.equal(way.enter(asByteString("none")), false);
  for (const part of parts) {
    assert.ok(way.enter(part));
  }
  for (let level = 0; level < 70; level += 1) {
    assert.ok(way.leave());
  }
  // The innermost is at depth 10 now; everything above is closed and has to be found again.
  renameSync(`${path}/tree/${parts.slice(0, 8).join("/")}`, `${path}/elsewhere/x`);
  assert.ok(way.leave());
  assert.ok(way.leave());
  assert.equal(way.leave(), false);
});

test("what is mounted in a tree is neither counted nor deleted", async (context) => {
  const path = temporaryDirectory(context);
  mkdirSync(`${path}/tree/mounted`, { recursive: true });
  mkdirSync(`${path}/other/kept`, { recursive: true });
  await mountOne({ type: "bind", source: `${path}/other`, options: ["bind"] }, `${path}/tree/mounted`);
  try {
    assert.equal(measureTree(`${path}/tree`).inodes, 2n);
    assert.throws(() => removeTrees([`${path}/tree`]), /cross-device|busy/);
    assert.equal(measureTree(`${path}/other`).inodes, 2n);
  } finally {
    await unmountAll(`${path}/tree/mounted`, { detach: true });
  }
});
