import assert from "node:assert/strict";
import test from "node:test";
import { constants, createDeflate, createInflate } from "node:zlib";
import { HeaderBlockReader, HeaderBlockWriter } from "./header-block.ts";
import { headerDictionary, headerDictionaryChecksum } from "./header-dictionary.ts";

/** Headers as clients in Go write them: by one compressor that is flushed after each block. */
function goWriter(): (headers: ReadonlyMap<string, string>) => Promise<Buffer> {
  const deflate = createDeflate({ dictionary: headerDictionary, level: 9 });
  const plain = new HeaderBlockWriter();
  plain.write(new Map());
  let out: Uint8Array[] = [];
  deflate.on("data", (bytes: Uint8Array) => out.push(bytes));
  return async (headers) => {
    out = [];
    deflate.write(Buffer.from(plain.write(headers)).subarray(5));
    await new Promise<void>((resolve) => deflate.flush(constants.Z_SYNC_FLUSH, resolve));
    await new Promise(setImmediate);
    return Buffer.concat(out);
  };
}

function adler32(bytes: Uint8Array): number {
  let [low, high] = [1, 0];
  for (const byte of bytes) {
    low = (low + byte) % 65521;
    high = (high + low) % 65521;
  }
  return high * 65536 + low;
}

test("the dictionary is the one of the protocol", () => {
  assert.equal(headerDictionary.length, 1423);
  assert.equal(adler32(headerDictionary), headerDictionaryChecksum);
});

test("blocks that a compressor wrote one after the other are read", async () => {
  const write = goWriter();
  const reader = new HeaderBlockReader();
  for (let round = 0; round < 3000; round += 1) {
    const headers = new Map([
      ["streamtype", round % 2 === 0 ? "data" : "error"],
      ["port", "8080"],
      ["requestid", String(round)],
    ]);
    assert.deepEqual(reader.read(await write(headers)), headers);
  }
});

test("blocks that we write are read by any zlib", async () => {
  const writer = new HeaderBlockWriter();
  const inflate = createInflate({ dictionary: headerDictionary, finishFlush: constants.Z_SYNC_FLUSH });
  const reader = new HeaderBlockReader();
  for (const headers of [new Map<string, string>(), new Map([["a", "b".repeat(60_000)]])]) {
    const block = writer.write(headers);
    assert.deepEqual(reader.read(block), headers);
    assert.deepEqual(Buffer.from(block.subarray(-5)), Buffer.from([0, 0, 0, 0xff, 0xff]), "it ends with a flush");
    inflate.write(block);
  }
  inflate.end();
  const bytes = Buffer.concat(await inflate.toArray());
  assert.equal(bytes.length, 4 + 4 + 4 + 1 + 4 + 60_000);
});

test("what is no block, or a bomb, is refused", async () => {
  assert.throws(() => new HeaderBlockReader().read(Buffer.from("not compressed")), /does not begin/);
  assert.throws(() => new HeaderBlockReader().read(Buffer.alloc(2)), /does not begin/);
  const write = goWriter();
  const bomb = await write(new Map([["a", "b".repeat(65_530)]]));
  assert.ok(bomb.length < 2000);
  assert.throws(() => new HeaderBlockReader().read(bomb), /does not unpack/);
  const cut = Buffer.from(new HeaderBlockWriter().write(new Map([["a", "b"]])));
  cut.writeUInt32BE(7, 11);
  assert.throws(() => new HeaderBlockReader().read(cut), /ends too early/);
});
