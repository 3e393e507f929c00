import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { ByteQueue } from "./byte-queue.ts";

function drain(queue: ByteQueue, stepBytes: number): Buffer {
  const parts: Buffer[] = [];
  while (queue.sizeBytes > 0) {
    const part = queue.take(stepBytes);
    assert.ok(part.length > 0 && part.length <= stepBytes);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

const operations = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constantFrom("push" as const, "copy" as const), size: fc.integer({ min: 0, max: 5000 }) }),
    fc.record({ kind: fc.constant("take" as const), size: fc.integer({ min: 1, max: 3000 }) }),
  ),
  { maxLength: 40 },
);

test("bytes come out in the order in which they went in", () => {
  fc.assert(
    fc.property(operations, fc.integer({ min: 1, max: 3000 }), (steps, lastStep) => {
      const queue = new ByteQueue();
      const pushed: Buffer[] = [];
      const taken: Buffer[] = [];
      let next = 0;
      for (const { kind, size } of steps) {
        if (kind === "take") {
          if (queue.sizeBytes > 0) {
            taken.push(Buffer.from(queue.take(size)));
          }
        } else {
          const bytes = Buffer.alloc(size + 2, next++ & 0xff);
          pushed.push(bytes.subarray(1, size + 1));
          (kind === "push" ? queue.push.bind(queue) : queue.pushCopy.bind(queue))(bytes, 1, size + 1);
        }
      }
      const expected = Buffer.concat(pushed);
      assert.equal(queue.sizeBytes, expected.length - Buffer.concat(taken).length);
      const rest = drain(queue, lastStep);
      assert.ok(Buffer.concat([...taken, rest]).equals(expected));
    }),
  );
});

test("a clone keeps its bytes whatever happens to the queue", () => {
  const queue = new ByteQueue();
  queue.pushCopy(Buffer.from("one"), 0, 3);
  queue.pushCopy(Buffer.from("two"), 0, 3);
  const clone = queue.clone();
  queue.pushCopy(Buffer.from("three"), 0, 5);
  queue.take(2);
  clone.pushCopy(Buffer.from("four"), 0, 4);
  assert.equal(drain(clone, 100).toString(), "onetwofour");
  assert.equal(drain(queue, 100).toString(), "etwothree");
});

test("many small pieces become few", () => {
  const queue = new ByteQueue();
  for (let i = 0; i < 8192; i++) {
    queue.push(Buffer.from("x"), 0, 1);
  }
  let pieces = 0;
  while (queue.sizeBytes > 0) {
    queue.take(1_000_000);
    pieces += 1;
  }
  assert.ok(pieces <= 4, `${pieces} pieces`);
});
