import assert from "node:assert/strict";
import {
  chownSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import test, { type TestContext } from "node:test";
import { handOver } from "./handover.ts";

const isRoot = process.geteuid?.() === 0;
const mine = { uid: 64_201, gid: 64_200 };
const theirs = { uid: 64_202, gid: 64_200 };

function makeDirectory(context: TestContext): string {
  const directory = mkdtempSync(`${tmpdir()}/flotilla-handover-`);
  context.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

function ownerOf(path: string): { uid: number; gid: number } {
  const { uid, gid } = lstatSync(path);
  return { uid, gid };
}

test("a tree changes hands as a whole, once", { skip: !isRoot && "only root gives files away" }, (context) => {
  const tree = `${makeDirectory(context)}/tree`;
  mkdirSync(`${tree}/a/b`, { recursive: true });
  writeFileSync(`${tree}/a/b/file`, "x");
  assert.equal(handOver(tree, mine), true);
  for (const path of [tree, `${tree}/a`, `${tree}/a/b`, `${tree}/a/b/file`]) {
    assert.deepEqual(ownerOf(path), mine, path);
  }
  assert.equal(handOver(tree, mine), false, "nothing is left to do");
  // Another has made a file in it since.
  writeFileSync(`${tree}/late`, "x");
  assert.equal(handOver(tree, mine), true);
  assert.deepEqual(ownerOf(`${tree}/late`), mine);
  // A handover that was cut off has not come to the top yet.
  chownSync(`${tree}/a/b/file`, theirs.uid, theirs.gid);
  chownSync(tree, 0, 0);
  assert.equal(handOver(tree, mine), true);
  assert.deepEqual(ownerOf(`${tree}/a/b/file`), mine);
});

test("what lies elsewhere stays whose it is, however it was put into the tree", {
  skip: !isRoot && "only root gives files away",
}, (context) => {
  const directory = makeDirectory(context);
  const tree = `${directory}/tree`;
  mkdirSync(`${directory}/elsewhere`);
  writeFileSync(`${directory}/elsewhere/secret`, "x");
  mkdirSync(tree);
  symlinkSync(`${directory}/elsewhere`, `${tree}/link`);
  linkSync(`${directory}/elsewhere/secret`, `${tree}/hard`);
  writeFileSync(`${tree}/own`, "x");
  linkSync(`${tree}/own`, `${tree}/own-too`);
  chownSync(`${tree}/own`, theirs.uid, theirs.gid);
  lchownSync(`${tree}/link`, theirs.uid, theirs.gid);
  chownSync(tree, theirs.uid, theirs.gid);
  handOver(tree, mine);
  assert.deepEqual(ownerOf(`${directory}/elsewhere`), { uid: 0, gid: 0 });
  assert.deepEqual(ownerOf(`${directory}/elsewhere/secret`), { uid: 0, gid: 0 });
  assert.deepEqual(ownerOf(`${tree}/link`), mine);
  assert.deepEqual(ownerOf(`${tree}/own`), mine);
});
