import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempDisposable, open, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "node:test";
import { planHashTree, writeHashTree } from "./hash-tree.ts";

const salt = Buffer.alloc(32);
const { signal } = new AbortController();

function digestOf(block: Buffer): Buffer {
  return createHash("sha256").update(salt).update(block).digest();
}

/** The same by the definition: everything at once, level by level. */
function treeOf(data: Buffer, blockBytes: number): { readonly root: Buffer; readonly tree: Buffer } {
  const blocksOf = (bytes: Buffer): Buffer[] =>
    Array.from({ length: bytes.length / blockBytes }, (_, index) =>
      bytes.subarray(index * blockBytes, (index + 1) * blockBytes),
    );
  const levels: Buffer[] = [];
  let below = data;
  while (below.length > blockBytes) {
    const digests = Buffer.concat(blocksOf(below).map(digestOf));
    below = Buffer.concat([digests, Buffer.alloc((blockBytes - (digests.length % blockBytes)) % blockBytes)]);
    levels.unshift(below);
  }
  return { root: digestOf(below), tree: Buffer.concat(levels) };
}

test("hash trees: of one block, of a block of hashes, of several levels, of blocks that are not full", async () => {
  await using directory = await mkdtempDisposable(`${tmpdir()}/flotilla-tree-`);
  for (const [blockBytes, dataBlocks] of [
    [4096, 1],
    [4096, 2],
    [4096, 128],
    [4096, 129],
    [4096, 700],
    [512, 1],
    [512, 16],
    [512, 17],
    [512, 257],
    [512, 5000],
  ] as const) {
    const path = `${directory.path}/${blockBytes}-${dataBlocks}`;
    const data = Buffer.alloc(blockBytes * dataBlocks);
    for (let block = 0; block < dataBlocks; block += 1) {
      data.writeUInt32LE(block * 7 + 1, block * blockBytes);
    }
    const treeOffset = data.length + blockBytes;
    await writeFile(path, data);
    await using file = await open(path, "r+");
    const root = await writeHashTree(file, { blockBytes, dataBlocks, treeOffset, salt }, signal);
    const expected = treeOf(data, blockBytes);
    const what = `${dataBlocks} blocks of ${blockBytes}`;
    assert.equal(root.toString("hex"), expected.root.toString("hex"), what);
    const { size } = await file.stat();
    const { buffer } = await file.read(Buffer.alloc(Math.max(1, size - treeOffset)), 0, undefined, treeOffset);
    assert.ok(buffer.subarray(0, expected.tree.length).equals(expected.tree), what);
    assert.equal(planHashTree({ blockBytes, dataBlocks }).blocks * blockBytes, expected.tree.length, what);
  }
});

test("hash trees: a file that is shorter than it should be is refused", async () => {
  await using directory = await mkdtempDisposable(`${tmpdir()}/flotilla-tree-`);
  await writeFile(`${directory.path}/short`, Buffer.alloc(4096));
  await using file = await open(`${directory.path}/short`, "r+");
  const order = { blockBytes: 4096, dataBlocks: 2, treeOffset: 12_288, salt };
  await assert.rejects(writeHashTree(file, order, signal), /cannot read data block/);
});
