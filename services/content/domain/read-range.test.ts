import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { ErrorKind } from "#base/errors.ts";
import { readChunkBytesMax } from "./limits.ts";
import type { BlobReader } from "./ports.ts";
import { type ChunkMemory, plainMemory, type ReadChunk, rangeOf, readChunks } from "./read-range.ts";

class MemoryReader implements BlobReader {
  readonly #data: Buffer;
  readonly sizeBytes: bigint;
  closed = 0;
  reads = 0;

  constructor(data: Buffer, sizeBytes = BigInt(data.length)) {
    this.#data = data;
    this.sizeBytes = sizeBytes;
  }

  async read(buffers: readonly Uint8Array[], positionBytes: bigint): Promise<number> {
    this.reads += 1;
    await Promise.resolve();
    let done = 0;
    for (const buffer of buffers) {
      done += this.#data.copy(buffer, 0, Number(positionBytes) + done);
    }
    return done;
  }

  async close(): Promise<void> {
    this.closed += 1;
    await Promise.resolve();
  }
}

function bytesOf({ memory, lengthBytes }: ReadChunk<ChunkMemory>): Buffer {
  return Buffer.concat(memory.views(lengthBytes));
}

const big = Buffer.alloc(3 * readChunkBytesMax + 17, "0123456789abcdef-");

test("any range gives the bytes of the range, in order, in chunks of the full size but the last", async () => {
  const size = BigInt(big.length);
  await fc.assert(
    fc.asyncProperty(
      fc.bigInt({ min: -5n, max: size }),
      fc.bigInt({ min: -5n, max: size + 5n }),
      async (offset, wanted) => {
        const reader = new MemoryReader(big);
        const range = rangeOf({ offset, size: wanted }, reader);
        const parts: Buffer[] = [];
        const offsets: bigint[] = [];
        for await (const chunk of readChunks(reader, range, plainMemory)) {
          offsets.push(chunk.offset);
          parts.push(bytesOf(chunk));
        }
        const start = offset < 0n ? 0 : Number(offset);
        const end = wanted <= 0n ? big.length : start + Number(wanted);
        assert.ok(Buffer.concat(parts).equals(big.subarray(start, end)));
        assert.deepEqual(
          offsets,
          parts.map((_, index) => BigInt(index * readChunkBytesMax)),
        );
        assert.equal(reader.closed, 1);
      },
    ),
    { numRuns: 30 },
  );
});

test("one chunk is read ahead, and no more", async () => {
  const reader = new MemoryReader(big);
  const chunks = readChunks(reader, { startBytes: 0n, lengthBytes: reader.sizeBytes }, plainMemory);
  await chunks.next();
  assert.equal(reader.reads, 2);
  await chunks.return();
  assert.equal(reader.closed, 1);
});

test("a chunk stays as it is until the next one is asked for", async () => {
  const reader = new MemoryReader(big);
  const chunks = readChunks(reader, { startBytes: 0n, lengthBytes: reader.sizeBytes }, plainMemory);
  const first = await chunks.next();
  await new Promise(setImmediate);
  assert.ok(first.value !== undefined && bytesOf(first.value).equals(big.subarray(0, readChunkBytesMax)));
  await chunks.return();
});

test("a file that is shorter than its record is a loss of data, and is closed", async () => {
  const reader = new MemoryReader(Buffer.alloc(10), 20n);
  const chunks = readChunks(reader, { startBytes: 0n, lengthBytes: 20n }, plainMemory);
  await assert.rejects(chunks.next(), { kind: ErrorKind.DataLoss });
  assert.equal(reader.closed, 1);
});

test("an offset behind the end is out of range", () => {
  assert.throws(() => rangeOf({ offset: 7n, size: 0n }, { sizeBytes: 6n }), {
    kind: ErrorKind.OutOfRange,
    message: "read past object length 6 bytes",
  });
});
