import assert from "node:assert/strict";
import test from "node:test";
import { array, assert as check, integer, property, uint8Array } from "fast-check";
import { controlFrame, dataFrameHead, type Frame, FrameReader, FrameType, finFlag, numbers } from "./frames.ts";

function readAll(reader: FrameReader, ...chunks: Uint8Array[]): Frame[] {
  return chunks.flatMap((chunk) => [...reader.read(chunk)]);
}

test("control frames come whole and data frames piece by piece, however the bytes are cut", () => {
  check(
    property(array(uint8Array({ maxLength: 40 }), { maxLength: 6 }), integer({ min: 1, max: 30 }), (payloads, cut) => {
      const bytes = Buffer.concat(
        payloads.flatMap((payload, index) => [
          controlFrame(FrameType.Ping, 0, numbers(index)),
          dataFrameHead(2 * index + 1, finFlag, payload.length),
          payload,
        ]),
      );
      const chunks = Array.from({ length: Math.ceil(bytes.length / cut) }, (_, index) =>
        bytes.subarray(index * cut, (index + 1) * cut),
      );
      const frames = readAll(new FrameReader(), ...chunks);
      payloads.forEach((payload, index) => {
        const data = frames.filter((frame) => frame.kind === "data" && frame.streamId === 2 * index + 1);
        assert.deepEqual(
          Buffer.concat(data.map((frame) => (frame.kind === "data" ? frame.bytes : []) as Uint8Array)),
          Buffer.from(payload),
        );
        assert.deepEqual(
          data.map((frame) => frame.kind === "data" && frame.isLast),
          data.map((_, position) => position === data.length - 1),
        );
      });
      const pings = frames.filter((frame) => frame.kind === "control");
      assert.deepEqual(
        pings.map((frame) => frame.kind === "control" && frame.payload.readUInt32BE(0)),
        payloads.map((_, index) => index),
      );
    }),
  );
});

test("an empty data frame that ends a stream is told of", () => {
  assert.deepEqual(readAll(new FrameReader(), dataFrameHead(7, finFlag, 0)), [
    { kind: "data", streamId: 7, bytes: Buffer.alloc(0), isLast: true },
  ]);
});

test("another version and a control frame that is too large are refused", () => {
  const frame = controlFrame(FrameType.Ping, 0, numbers(1));
  frame.writeUInt16BE(0x8002, 0);
  assert.throws(() => readAll(new FrameReader(), frame), /frame of SPDY version 2/);
  const large = controlFrame(FrameType.SynStream, 0);
  large.writeUIntBE(70_000, 5, 3);
  assert.throws(() => readAll(new FrameReader(), large), /control frame of 70000 bytes/);
});
