import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import test from "node:test";
import { connectionIds, Multiplex } from "./multiplex.ts";

/** Lengths of the pieces in which a message of this many bytes is sent. */
async function piecesOf(messageBytes: number): Promise<number[]> {
  const written: Buffer[] = [];
  const trunk = new Duplex({
    read: () => undefined,
    write: (bytes: Buffer, _encoding, done) => {
      written.push(bytes);
      done();
    },
  });
  const connection = new Multiplex(trunk).open(connectionIds.plugin);
  await new Promise((resolve) => connection.write(Buffer.alloc(messageBytes, 7), resolve));
  const sent = Buffer.concat(written);
  const lengths: number[] = [];
  for (let offset = 0; offset < sent.length; ) {
    assert.equal(sent.readUInt32BE(offset), connectionIds.plugin);
    const length = sent.readUInt32BE(offset + 4);
    lengths.push(length);
    offset += 8 + length;
  }
  return lengths;
}

test("a message is sent as plugins can read it: its beginning in a piece of 4 KiB at most, the rest in one", async () => {
  assert.deepEqual(await piecesOf(10), [10]);
  assert.deepEqual(await piecesOf(4096), [4096]);
  assert.deepEqual(await piecesOf(10_000), [4096, 5904]);
  assert.deepEqual(await piecesOf(4 * 1024 * 1024 + 10), [4096, 4 * 1024 * 1024 + 10 - 4096]);
});
