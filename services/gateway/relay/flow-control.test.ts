import assert from "node:assert/strict";
import net from "node:net";
import test from "node:test";
import * as fc from "fast-check";
import type { DataSink, DataSource } from "#wire/http2/data-flow.ts";
import { FrameWriter } from "#wire/http2/frame-writer.ts";
import { frameBytesMax } from "#wire/http2/limits.ts";
import { WriterGroup } from "#wire/http2/writer-group.ts";
import { Direction } from "./flow-control.ts";

/** A writer that notes what would be written, and writes nothing. */
class NotingWriter extends FrameWriter {
  /** Payload of DATA frames. */
  readonly sent: Buffer[] = [];
  creditBytes = 0;
  isEnded = false;
  #hasHead = false;

  constructor() {
    super(new net.Socket(), new WriterGroup());
  }

  override dataHead(_streamId: number, lengthBytes: number, isLast: boolean): void {
    assert.equal(this.isEnded, false, "nothing is sent behind the end");
    assert.ok(lengthBytes <= frameBytesMax);
    this.#hasHead = true;
    this.isEnded = isLast;
  }

  override appendData(buffer: Buffer, start: number, end: number): void {
    let payloadStart = start;
    if (!this.#hasHead) {
      assert.equal(buffer.readUIntBE(start, 3), end - start - 9, "a head that stands in place fits its piece");
      assert.equal(this.isEnded, false, "nothing is sent behind the end");
      this.isEnded = buffer[start + 4] === 1;
      payloadStart += 9;
    }
    this.#hasHead = false;
    this.sent.push(Buffer.from(buffer.subarray(payloadStart, end)));
  }

  override windowUpdate(_streamId: number, incrementBytes: number): void {
    this.creditBytes += incrementBytes;
  }
}

/** What a receiver and a sender at the two ends of a direction know, kept apart from what the direction knows. */
class Ends implements DataSink, DataSource {
  readonly writer = new NotingWriter();
  readonly sender = new NotingWriter();
  sendWindowBytes: number;
  readonly waiting = new Set<Direction>();
  returnedBytes = 0;
  ends = 0;

  constructor(connectionWindowBytes: number) {
    this.sendWindowBytes = connectionWindowBytes;
  }

  parkCredit(): void {
    assert.fail("no socket is slow here");
  }

  waitForWindow(direction: Direction): void {
    this.waiting.add(direction);
  }

  sendHeaders(_streamId: number, _block: unknown, endStream: boolean): void {
    assert.equal(this.writer.isEnded, false);
    this.writer.isEnded = endStream;
  }

  endSent(): void {
    this.ends += 1;
  }

  holdChunk(): undefined {}

  returnCredit(sizeBytes: number): void {
    this.returnedBytes += sizeBytes;
  }

  /** The side of the sender, as the direction sees it. */
  get source(): DataSource {
    return {
      writer: this.sender,
      returnCredit: (sizeBytes) => this.returnCredit(sizeBytes),
      holdChunk: () => undefined,
    };
  }
}

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("send" as const), size: fc.integer({ min: 0, max: 20_000 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("update" as const), size: fc.integer({ min: 1, max: 30_000 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("settings" as const), size: fc.integer({ min: -40_000, max: 40_000 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("connection" as const), size: fc.integer({ min: 1, max: 30_000 }) }),
  },
);

test("bytes arrive in order, no window is overrun, and nothing stays behind once the windows are open", () => {
  const run = fc.record({
    steps: fc.array(step, { maxLength: 60 }),
    streamWindow: fc.integer({ min: 0, max: 100_000 }),
    connectionWindow: fc.integer({ min: 0, max: 100_000 }),
    attachAt: fc.nat({ max: 10 }),
    passesCreditAtOnce: fc.boolean(),
    endsWith: fc.constantFrom("data" as const, "trailers" as const),
  });
  fc.assert(
    fc.property(run, ({ steps, streamWindow, connectionWindow, attachAt, passesCreditAtOnce, endsWith }) => {
      const ends = new Ends(connectionWindow);
      const direction = new Direction(1, { passesCreditAtOnce });
      direction.source = ends.source;
      direction.receiveWindowBytes = 65_535;
      let senderMay = 65_535;
      let receiverTakes = streamWindow;
      let connectionTakes = connectionWindow;
      let sentBytes = 0;
      let next = 0;
      const checkReceiver = (before: number): void => {
        const arrived = ends.writer.sent.reduce((sum, { length }) => sum + length, 0);
        receiverTakes -= arrived - before;
        connectionTakes -= arrived - before;
        assert.ok(arrived === before || receiverTakes >= 0, "the stream's window is kept");
        assert.ok(connectionTakes >= 0, "the connection's window is kept");
        senderMay += ends.sender.creditBytes;
        ends.sender.creditBytes = 0;
      };
      const arrivedBytes = (): number => ends.writer.sent.reduce((sum, { length }) => sum + length, 0);
      const attach = (): void => {
        direction.sink = ends;
        direction.sendWindowBytes = streamWindow;
        const before = arrivedBytes();
        direction.flow();
        direction.passCredit();
        checkReceiver(before);
      };
      for (const [index, { kind, size }] of steps.entries()) {
        if (index === attachAt) {
          attach();
        }
        const before = arrivedBytes();
        if (kind === "send") {
          const sizeBytes = Math.max(0, Math.min(size, senderMay, frameBytesMax));
          const chunk = Buffer.alloc(9 + sizeBytes);
          chunk.writeUIntBE(sizeBytes, 0, 3);
          for (let at = 0; at < sizeBytes; at++) {
            chunk[9 + at] = next++ & 0xff;
          }
          sentBytes += sizeBytes;
          senderMay -= sizeBytes;
          direction.pass(chunk, 9, chunk.length, index % 2 === 0 ? 0 : -1, 0, false);
        } else if (direction.sink === undefined) {
          continue;
        } else if (kind === "connection") {
          connectionTakes += size;
          ends.sendWindowBytes += size;
          ends.waiting.clear();
          direction.flow();
        } else {
          receiverTakes += size;
          direction.widen(size);
        }
        checkReceiver(before);
      }
      if (direction.sink === undefined) {
        attach();
      }
      const before = arrivedBytes();
      if (endsWith === "data") {
        direction.pass(Buffer.alloc(0), 0, 0, -1, 0, true);
      } else {
        direction.passTrailers({ buffer: Buffer.alloc(1), start: 0, end: 1 });
      }
      checkReceiver(before);
      const last = arrivedBytes();
      connectionTakes += 10_000_000;
      ends.sendWindowBytes += 10_000_000;
      receiverTakes += 10_000_000;
      direction.widen(10_000_000);
      checkReceiver(last);
      const arrived = Buffer.concat(ends.writer.sent);
      assert.equal(arrived.length, sentBytes);
      assert.ok(arrived.every((octet, index) => octet === (index & 0xff)));
      assert.equal(ends.writer.isEnded, true);
      assert.equal(ends.ends, 1);
      assert.equal(ends.returnedBytes, sentBytes, "the connection gets all its credit back");
    }),
    { numRuns: 500 },
  );
});

test("what is discarded gives its credit back, and so does what comes later", () => {
  const ends = new Ends(0);
  const direction = new Direction(1, { passesCreditAtOnce: false });
  direction.source = ends.source;
  direction.sink = ends;
  direction.sendWindowBytes = 1_000;
  direction.pass(Buffer.alloc(500), 0, 500, -1, 0, false);
  assert.equal(direction.waitingBytes, 500);
  direction.discard();
  assert.equal(ends.returnedBytes, 500);
  direction.pass(Buffer.alloc(70), 0, 70, -1, 0, true);
  assert.equal(ends.returnedBytes, 570);
  assert.equal(ends.writer.sent.length, 0);
});

test("a piece of a longer frame goes on as a frame of its own, without the end", () => {
  const ends = new Ends(1_000);
  const direction = new Direction(1, { passesCreditAtOnce: false });
  direction.sink = ends;
  direction.sendWindowBytes = 1_000;
  const chunk = Buffer.alloc(109);
  chunk.writeUIntBE(300, 0, 3);
  chunk[4] = 1;
  direction.pass(chunk, 9, 109, 0, 200, false);
  assert.equal(ends.writer.isEnded, false);
  direction.pass(Buffer.alloc(200), 0, 200, -1, 0, true);
  assert.equal(ends.writer.isEnded, true);
  assert.deepEqual(
    ends.writer.sent.map(({ length }) => length),
    [100, 200],
  );
});

test("what waits of a source that is gone gives no credit to the next, and what is skipped gives all", () => {
  const first = new Ends(0);
  const direction = new Direction(1, { passesCreditAtOnce: true });
  direction.source = first.source;
  direction.sink = first;
  direction.sendWindowBytes = 1_000;
  direction.receiveWindowBytes = 1_000;
  direction.pass(Buffer.alloc(500), 0, 500, -1, 0, false);
  direction.orphan();
  const next = new Ends(0);
  direction.source = next.source;
  direction.receiveWindowBytes = 1_000;
  direction.skip(600);
  assert.equal(next.returnedBytes, 600);
  assert.equal(direction.receiveWindowBytes, 500, "the receiver has room for 500 more");
  assert.equal(next.sender.creditBytes, 100);
  direction.pass(Buffer.alloc(70), 0, 70, -1, 0, false);
  first.sendWindowBytes = 550;
  direction.flow();
  assert.equal(next.returnedBytes, 650);
  assert.equal(first.returnedBytes, 0);
  direction.discard();
  assert.equal(next.returnedBytes, 670);
});
