import assert from "node:assert/strict";
import test from "node:test";
import { RequestQueue } from "./request-queue.ts";

/** A queue of numbers, and the credit that its client got. */
function makeQueue(): { queue: RequestQueue<number>; credit: () => number; push: (...values: number[]) => void } {
  let creditBytes = 0;
  const queue = new RequestQueue<number>(
    (message) => {
      if (message[0] === 0) {
        throw new Error("no number");
      }
      return message[0] ?? 0;
    },
    (sizeBytes) => {
      creditBytes += sizeBytes;
    },
  );
  const push = (...values: number[]): void =>
    queue.push(
      values.map((value) => Uint8Array.of(value)),
      10 * values.length,
    );
  return { queue, credit: () => creditBytes, push };
}

test("messages come out in order, and the client gets no credit while one waits", async () => {
  const { queue, credit, push } = makeQueue();
  push(1, 2, 3);
  assert.equal(credit(), 0);
  assert.deepEqual(await queue.next(), { done: false, value: 1 });
  assert.deepEqual(await queue.next(), { done: false, value: 2 });
  assert.equal(credit(), 0);
  assert.deepEqual(await queue.next(), { done: false, value: 3 });
  assert.equal(credit(), 30);
  const waiting = queue.next();
  push(4);
  assert.equal(credit(), 40);
  assert.deepEqual(await waiting, { done: false, value: 4 });
});

test("a part of a message is credited while nothing waits, or one that is larger than the window would never come", () => {
  const { queue, credit } = makeQueue();
  queue.push([], 1_000);
  assert.equal(credit(), 1_000);
});

test("the end comes after what waits", async () => {
  const { queue, credit, push } = makeQueue();
  push(1);
  queue.end();
  push(2);
  assert.deepEqual(await queue.next(), { done: false, value: 1 });
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
  assert.equal(credit(), 20);
});

test("a failure comes at once, and stays; one that ends a stream comes behind it", async () => {
  const { queue, credit, push } = makeQueue();
  const waiting = queue.next();
  queue.fail(new Error("gone"));
  await assert.rejects(waiting, /gone/);
  queue.end();
  await assert.rejects(queue.next(), /gone/);
  push(1);
  assert.equal(credit(), 10);

  const { queue: other, push: pushOther } = makeQueue();
  pushOther(1);
  other.endWith(new Error("late"));
  assert.deepEqual(await other.next(), { done: false, value: 1 });
  await assert.rejects(other.next(), /late/);
});

test("a message that can't be read is what the handler is told", async () => {
  const { queue, push } = makeQueue();
  const waiting = queue.next();
  push(0);
  await assert.rejects(waiting, /no number/);
});

test("a handler that wants no more lets the rest be read and dropped", async () => {
  const { queue, credit, push } = makeQueue();
  push(1, 2);
  await queue.return();
  assert.equal(credit(), 20);
  push(3);
  assert.equal(credit(), 30);
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
});

test("a handler that borrows messages gives each back when it asks for the next", async () => {
  const queue = new RequestQueue(
    (message) => message.length,
    () => undefined,
  );
  const takenBack: number[] = [];
  queue.lend((message) => takenBack.push(message.length));
  queue.push([new Uint8Array(1), new Uint8Array(2)], 3);
  await queue.next();
  assert.deepEqual(takenBack, []);
  await queue.next();
  assert.deepEqual(takenBack, [1]);
  const last = queue.next();
  assert.deepEqual(takenBack, [1, 2]);
  queue.push([new Uint8Array(3)], 3);
  assert.deepEqual(await last, { done: false, value: 3 });
  queue.end();
  await queue.next();
  assert.deepEqual(takenBack, [1, 2, 3]);
});
