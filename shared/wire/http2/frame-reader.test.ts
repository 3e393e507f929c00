import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { FrameReader } from "./frame-reader.ts";
import { ConnectionFault, ErrorCode, Flag, FrameType } from "./protocol.ts";

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

function encode({ type, flags, streamId, payload }: Frame): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, payload]);
}

/** Reads chunks and puts the pieces of DATA together again. */
function readAll(chunks: readonly Buffer[]): { frames: Frame[]; pieces: number } {
  const frames: Frame[] = [];
  let parts: Buffer[] = [];
  let pieces = 0;
  const reader: FrameReader = new FrameReader({
    onFrame: (buffer, frameStart, frameEnd) => {
      const { type, flags, streamId } = reader;
      frames.push({ type, flags, streamId, payload: Buffer.from(buffer.subarray(frameStart + 9, frameEnd)) });
    },
    onDataPiece: (chunk, start, end, headStart, missingBytes) => {
      pieces += 1;
      assert.ok(headStart === -1 || headStart === start - 9);
      parts.push(Buffer.from(chunk.subarray(start, end)));
      if (missingBytes === 0) {
        const { type, flags, streamId } = reader;
        frames.push({ type, flags, streamId, payload: Buffer.concat(parts) });
        parts = [];
      }
    },
  });
  for (const chunk of chunks) {
    reader.read(chunk);
  }
  return { frames, pieces };
}

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = places.map((place) => place % (bytes.length + 1)).sort((left, right) => left - right);
  return [0, ...sorted].map((start, index) => Buffer.from(bytes.subarray(start, sorted[index] ?? bytes.length)));
}

const anyFrame: fc.Arbitrary<Frame> = fc
  .tuple(
    fc.integer({ min: 0, max: 12 }),
    fc.integer({ min: 0, max: 255 }),
    fc.integer({ min: 0, max: 0x7fffffff }),
    fc.uint8Array({ maxLength: 300 }),
  )
  .map(([type, flags, streamId, bytes]) => ({ type, flags, streamId, payload: Buffer.from(bytes) }));

test("frames come out as they went in, however the bytes are cut", () => {
  fc.assert(
    fc.property(fc.array(anyFrame, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 20 }), (frames, places) => {
      const bytes = Buffer.concat(frames.map(encode));
      assert.deepEqual(readAll(cut(bytes, places)).frames, frames);
    }),
  );
});

test("frames come out as they went in, byte by byte", () => {
  const frames: Frame[] = [
    { type: FrameType.Settings, flags: 0, streamId: 0, payload: Buffer.alloc(12, 1) },
    { type: FrameType.Data, flags: 0, streamId: 1, payload: Buffer.alloc(0) },
    { type: FrameType.Data, flags: Flag.EndStream, streamId: 1, payload: Buffer.alloc(30, 2) },
    { type: FrameType.Data, flags: Flag.Padded, streamId: 3, payload: Buffer.alloc(30, 3) },
    { type: FrameType.Headers, flags: Flag.EndHeaders, streamId: 5, payload: Buffer.alloc(16_384, 4) },
    { type: 0xfa, flags: 0xff, streamId: 0x7fffffff, payload: Buffer.alloc(1, 5) },
  ];
  const bytes = Buffer.concat(frames.map(encode));
  assert.deepEqual(readAll(Array.from(bytes, (octet) => Buffer.of(octet))).frames, frames);
});

test("DATA is passed on as it arrives, not when it is complete", () => {
  const bytes = encode({ type: FrameType.Data, flags: 0, streamId: 1, payload: Buffer.alloc(100) });
  const seen: number[] = [];
  const reader = new FrameReader({
    onFrame: () => assert.fail("DATA is no whole frame"),
    onDataPiece: (_chunk, start, end, _headStart, missingBytes) => seen.push(end - start, missingBytes),
  });
  reader.read(bytes.subarray(0, 29));
  assert.deepEqual(seen, [20, 80]);
  reader.read(bytes.subarray(29));
  assert.deepEqual(seen, [20, 80, 80, 0]);
});

test("a frame that is too large is a fault as soon as its head is there", () => {
  const head = encode({ type: FrameType.Data, flags: 0, streamId: 1, payload: Buffer.alloc(0) });
  head.writeUIntBE(16_385, 0, 3);
  assert.throws(
    () => readAll([head]),
    (error) => error instanceof ConnectionFault && error.code === ErrorCode.FrameSizeError,
  );
});

test("nothing is read after a stop", () => {
  const bytes = encode({ type: FrameType.Ping, flags: 0, streamId: 0, payload: Buffer.alloc(8) });
  let count = 0;
  const reader: FrameReader = new FrameReader({
    onFrame: () => {
      count += 1;
      reader.stop();
    },
    onDataPiece: () => assert.fail("there is no DATA"),
  });
  reader.read(Buffer.concat([bytes, bytes]));
  reader.read(bytes);
  assert.equal(count, 1);
});

test("frames of bulk data that differ in nothing but their payload come together, the others by themselves", () => {
  const frames = fc.array(
    fc.record({
      streamId: fc.constantFrom(1, 3),
      flags: fc.constantFrom(0, 0, 0, Flag.EndStream),
      sizeBytes: fc.constantFrom(0, 10, 4_095, 4_096, 16_384),
    }),
    { minLength: 1, maxLength: 12 },
  );
  const places = fc.array(fc.nat(200_000), { maxLength: 3 });
  fc.assert(
    fc.property(frames, places, fc.boolean(), (made, cuts, takes) => {
      const sent = made.map(({ sizeBytes, ...head }, index) =>
        encode({ ...head, type: FrameType.Data, payload: Buffer.alloc(sizeBytes, index + 1) }),
      );
      const received: Buffer[] = [];
      const add = (streamId: number, bytes: Buffer): void => {
        received.push(Buffer.concat([Buffer.from([streamId]), bytes]));
      };
      const reader: FrameReader = new FrameReader({
        onFrame: () => assert.fail("no DATA"),
        onDataPiece: (chunk, start, end) => add(reader.streamId, Buffer.from(chunk.subarray(start, end))),
        onDataRun: (chunk, start, end, payloadBytes) => {
          if (!takes) {
            return false;
          }
          let bytes = 0;
          for (let at = start; at < end; ) {
            const sizeBytes = chunk.readUIntBE(at, 3);
            assert.deepEqual([chunk[at + 3], chunk[at + 4]], [FrameType.Data, 0]);
            assert.ok(sizeBytes >= 4_096);
            add(chunk.readUInt32BE(at + 5), Buffer.from(chunk.subarray(at + 9, at + 9 + sizeBytes)));
            bytes += sizeBytes;
            at += 9 + sizeBytes;
          }
          assert.equal(bytes, payloadBytes);
          return true;
        },
      });
      for (const chunk of cut(Buffer.concat(sent), cuts)) {
        reader.read(chunk);
      }
      const ofStream = (streamId: number): Buffer =>
        Buffer.concat(received.filter(([id]) => id === streamId).map((bytes) => bytes.subarray(1)));
      for (const streamId of [1, 3]) {
        const expected = made.map((frame, index) =>
          Buffer.alloc(frame.streamId === streamId ? frame.sizeBytes : 0, index + 1),
        );
        assert.ok(ofStream(streamId).equals(Buffer.concat(expected)));
      }
    }),
  );
});
