import assert from "node:assert/strict";
import test from "node:test";
import { Flag, FrameType } from "#wire/http2/protocol.ts";
import { isWholeBehind } from "./answer-ahead.ts";

function frame(type: number, flags: number, streamId: number, sizeBytes = 4): Buffer {
  const bytes = Buffer.alloc(9 + sizeBytes);
  bytes.writeUIntBE(sizeBytes, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(streamId, 5);
  return bytes;
}

const head = frame(FrameType.Headers, Flag.EndHeaders, 5);
const data = frame(FrameType.Data, 0, 5);
const end = frame(FrameType.Headers, Flag.EndHeaders | Flag.EndStream, 5);

function isWhole(...behind: readonly Buffer[]): boolean {
  const before = frame(FrameType.Ping, 0, 0, 8);
  return isWholeBehind({
    buffer: Buffer.concat([before, head, ...behind]),
    start: before.length,
    end: before.length + head.length,
  });
}

test("an answer is whole when its message and its end lie behind its head, and are its own", () => {
  assert.equal(isWhole(data, end), true);
  assert.equal(isWhole(data, end, data), true);
  assert.equal(isWhole(end), true);
  assert.equal(isWhole(), false);
  assert.equal(isWhole(data), false);
  assert.equal(isWhole(data, data, end), false);
  assert.equal(isWhole(data, end.subarray(0, -1)), false);
  assert.equal(isWhole(data.subarray(0, 5)), false);
  assert.equal(isWhole(frame(FrameType.Data, 0, 7), end), false);
  assert.equal(isWhole(data, frame(FrameType.Headers, Flag.EndHeaders | Flag.EndStream, 7)), false);
  assert.equal(isWhole(data, frame(FrameType.Headers, Flag.EndStream, 5)), false);
  assert.equal(isWhole(frame(FrameType.ResetStream, 0, 5), end), false);
  assert.equal(isWholeBehind(undefined), false);
});
