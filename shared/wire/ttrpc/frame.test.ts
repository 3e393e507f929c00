import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { ttrpcFrameBytesMax } from "#base/limits.ts";
import { encodeFrame, type Frame, FrameParser, type OversizedFrame } from "./frame.ts";

const frames = fc.array(
  fc.record({
    streamId: fc.integer({ min: 0, max: 0xffff_ffff }),
    type: fc.integer({ min: 0, max: 255 }),
    flags: fc.integer({ min: 0, max: 255 }),
    data: fc.uint8Array({ maxLength: 200 }),
  }),
  { maxLength: 20 },
);

function parseInPieces(bytes: Buffer, cuts: readonly number[]): (Frame | OversizedFrame)[] {
  const parser = new FrameParser();
  const borders = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let from = 0;
  return borders.flatMap((to) => {
    const parsed = [...parser.push(bytes.subarray(from, to))];
    from = to;
    return parsed;
  });
}

test("frames come out as they went in, however the bytes are cut", () => {
  fc.assert(
    fc.property(frames, fc.array(fc.nat(), { maxLength: 30 }), (sent, cuts) => {
      const bytes = Buffer.concat(sent.map(encodeFrame));
      const received = parseInPieces(bytes, cuts);
      assert.deepEqual(
        received,
        sent.map((frame) => ({ ...frame, data: Buffer.from(frame.data) })),
      );
    }),
  );
});

test("any bytes give frames or one clear error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), fc.array(fc.nat(), { maxLength: 10 }), (bytes, cuts) => {
      try {
        for (const frame of parseInPieces(Buffer.from(bytes), cuts)) {
          assert.ok("oversizedBytes" in frame ? frame.oversizedBytes > ttrpcFrameBytesMax : frame.data.length <= 500);
        }
      } catch (error) {
        assert.equal((error as Error).message, "the first byte of a ttrpc frame is not zero");
      }
    }),
  );
});

test("a header is ten bytes, big-endian, as other implementations write it", () => {
  assert.equal(
    encodeFrame({ streamId: 0x0102_0304, type: 1, flags: 2, data: Buffer.from("ab") }).toString("hex"),
    "000000020102030401026162",
  );
});

test("the longest frame passes and a longer one is skipped without hurting its neighbours", () => {
  const parser = new FrameParser();
  const longest = encodeFrame({ streamId: 1, type: 3, flags: 0, data: new Uint8Array(ttrpcFrameBytesMax) });
  assert.deepEqual(
    [...parser.push(longest)].map((frame) => "data" in frame && frame.data.length),
    [ttrpcFrameBytesMax],
  );
  const header = encodeFrame({ streamId: 3, type: 1, flags: 0 });
  header.writeUInt32BE(ttrpcFrameBytesMax + 1, 0);
  assert.deepEqual([...parser.push(header)], [{ streamId: 3, oversizedBytes: ttrpcFrameBytesMax + 1 }]);
  const next = encodeFrame({ streamId: 5, type: 1, flags: 0, data: Buffer.from("x") });
  const skipped = Buffer.alloc(ttrpcFrameBytesMax + 1, 0xff);
  assert.deepEqual([...parser.push(skipped)], []);
  assert.deepEqual([...parser.push(next)], [{ streamId: 5, type: 1, flags: 0, data: Buffer.from("x") }]);
});

test("a message that does not fit is refused with the text of other implementations", () => {
  assert.throws(() => encodeFrame({ streamId: 1, type: 1, flags: 0, data: new Uint8Array(ttrpcFrameBytesMax + 1) }), {
    kind: "resource exhausted",
    message: "message length 4194305 exceed maximum message size of 4194304",
  });
});
