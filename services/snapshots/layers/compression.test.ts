import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import test from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import * as fc from "fast-check";
import { decompress, detectCompression } from "./compression.ts";

const byZlib = { program: undefined, signal: new AbortController().signal };

/** Pieces that are good until the next is asked for. */
async function* inPieces(data: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
  for (let offset = 0; offset < data.length; offset += pieceBytes) {
    const piece = Buffer.from(data.subarray(offset, offset + pieceBytes));
    yield piece;
    piece.fill(0xee);
  }
}

async function run(data: Buffer, pieceBytes = 1000): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of decompress(inPieces(data, pieceBytes), byZlib)) {
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces).toString("latin1");
}

const skippable = Buffer.from([0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);

test("the first bytes tell the compression", () => {
  assert.equal(detectCompression(gzipSync("x")), "gzip");
  assert.equal(detectCompression(zstdCompressSync("x")), "zstd");
  assert.equal(detectCompression(skippable), "zstd");
  assert.equal(detectCompression(skippable.subarray(0, 7)), "none");
  assert.equal(detectCompression(Buffer.from([0x1f, 0x8b])), "none");
  assert.equal(detectCompression(Buffer.alloc(0)), "none");
});

test("any data comes back, in pieces of any size", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 5000 }),
      fc.constantFrom("none", "gzip", "zstd"),
      fc.integer({ min: 1, max: 6000 }),
      async (bytes, compression, pieceBytes) => {
        const data = Buffer.from(bytes);
        fc.pre(compression !== "none" || detectCompression(data) === "none");
        const compressed =
          compression === "none" ? data : compression === "gzip" ? gzipSync(data) : zstdCompressSync(data);
        assert.equal(await run(compressed, pieceBytes), data.toString("latin1"));
      },
    ),
    { numRuns: 50 },
  );
});

test("a large layer comes back, and the memory of its pieces is given back when they have been used", async () => {
  const random = randomBytes(3_000_001);
  const data = Buffer.concat([random, Buffer.alloc(2_000_003), random.subarray(1000)]);
  for (const compressed of [
    gzipSync(data),
    Buffer.concat([gzipSync(random), gzipSync(data.subarray(random.length))]),
    zstdCompressSync(data),
  ]) {
    const seen: Buffer[] = [];
    const hash = createHash("sha256");
    for await (const piece of decompress(inPieces(compressed, 500_000), byZlib)) {
      hash.update(piece);
      seen.push(piece);
    }
    assert.equal(hash.digest("hex"), createHash("sha256").update(data).digest("hex"));
    const kept = new Set(seen.map(({ buffer }) => buffer).filter(({ byteLength }) => byteLength > 0));
    assert.ok(kept.size <= 1, `${kept.size} buffers are left`);
  }
});

test("an empty layer is an empty layer", async () => {
  assert.equal(await run(Buffer.alloc(0)), "");
});

test("members and frames are read one after the other", async () => {
  assert.equal(await run(Buffer.concat([gzipSync("a"), gzipSync("b"), gzipSync("c")]), 7), "abc");
  const frames = [skippable, zstdCompressSync("a"), skippable, zstdCompressSync("b"), skippable];
  assert.equal(await run(Buffer.concat(frames), 7), "ab");
});

test("what is wrong is told in the words of Go", { timeout: 20_000 }, async () => {
  const gzip = gzipSync("content ".repeat(100));
  const flipped = Buffer.from(gzip);
  flipped.writeUInt8((gzip.at(-6) ?? 0) ^ 1, gzip.length - 6);
  for (const pieceBytes of [1, 10, 10_000]) {
    for (const [data, message] of [
      [gzip.subarray(0, -1), "unexpected EOF"],
      [gzip.subarray(0, 15), "unexpected EOF"],
      [flipped, "gzip: invalid checksum"],
      [Buffer.concat([gzip, Buffer.from("rubbish")]), "gzip: invalid header"],
      [Buffer.concat([gzip, Buffer.alloc(100)]), "gzip: invalid header"],
      [zstdCompressSync("content").subarray(0, -1), "unexpected EOF"],
      [Buffer.concat([zstdCompressSync("content"), Buffer.from("rubbish")]), "invalid input: magic number mismatch"],
    ] as const) {
      await assert.rejects(run(data, pieceBytes), { message });
    }
  }
});

test("the source's own failure is passed on, and a reader that stops stops the source", async () => {
  let stopped = false;
  const source = async function* (): AsyncGenerator<Buffer> {
    try {
      yield gzipSync("x".repeat(100_000)).subarray(0, 50);
      throw new Error("disk is gone");
    } finally {
      stopped = true;
    }
  };
  await assert.rejects(
    async () => {
      for await (const _ of decompress(source(), byZlib)) {
        // Only the end counts.
      }
    },
    { message: "disk is gone" },
  );
  assert.ok(stopped);
  stopped = false;
  const endless = async function* (): AsyncGenerator<Buffer> {
    try {
      for (;;) {
        yield Buffer.alloc(1000);
      }
    } finally {
      stopped = true;
    }
  };
  for await (const _ of decompress(endless(), byZlib)) {
    break;
  }
  assert.ok(stopped);
});
