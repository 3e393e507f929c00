import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import test from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FrameReader } from "./frame-reader.ts";
import { FrameWriter } from "./frame-writer.ts";
import { FrameType } from "./protocol.ts";
import { WriterGroup } from "./writer-group.ts";

test("frames of every kind are whole wherever the memory that they are built in ends", async () => {
  const kinds: ((writer: FrameWriter) => void)[] = [
    (writer) => writer.settingsAck(),
    (writer) => writer.settings([[1, 0]]),
    (writer) => writer.windowUpdate(3, 7),
    (writer) => writer.resetStream(3, 8),
    (writer) => writer.resumePoint(3, "a/1"),
    (writer) => writer.ping(Buffer.alloc(8), 0, 0),
    (writer) => writer.goaway(1, 0, "why"),
    (writer) =>
      writer.headers(3, { buffer: Buffer.alloc(3), start: 0, end: 3 }, { endStream: true, resetsTable: true }),
  ];
  const types = [
    FrameType.Settings,
    FrameType.Settings,
    FrameType.WindowUpdate,
    FrameType.ResetStream,
    FrameType.ResumePoint,
    FrameType.Ping,
    FrameType.Goaway,
    FrameType.Headers,
  ];
  for (const [index, write] of kinds.entries()) {
    const written: Buffer[] = [];
    const socket = new Duplex({
      write: (bytes: Buffer, _encoding, done) => {
        written.push(bytes);
        done();
      },
    });
    const writer = new FrameWriter(socket, new WriterGroup());
    // Sizes that fit into no slab without a rest.
    for (let count = 0; count < 5_000; count++) {
      write(writer);
    }
    writer.flush();
    const seen: number[] = [];
    const reader: FrameReader = new FrameReader({
      onFrame: () => seen.push(reader.type),
      onDataPiece: () => seen.push(reader.type),
    });
    await turn();
    reader.read(Buffer.concat(written));
    assert.deepEqual(
      seen,
      Array.from({ length: 5_000 }, () => types[index]),
    );
  }
});
