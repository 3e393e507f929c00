import assert from "node:assert/strict";
import test from "node:test";
import { RequestQueue } from "./request-queue.ts";

class Source {
  isPaused = false;

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }
}

test("messages come out in order, and the source rests while one waits", async () => {
  const source = new Source();
  const queue = new RequestQueue<number>(source);
  queue.push([1, 2, 3]);
  assert.equal(source.isPaused, true);
  assert.deepEqual(await queue.next(), { done: false, value: 1 });
  assert.deepEqual(await queue.next(), { done: false, value: 2 });
  assert.equal(source.isPaused, true);
  assert.deepEqual(await queue.next(), { done: false, value: 3 });
  const waiting = queue.next();
  assert.equal(source.isPaused, false);
  queue.push([4]);
  assert.deepEqual(await waiting, { done: false, value: 4 });
  assert.equal(source.isPaused, false);
});

test("the end comes after what waits", async () => {
  const queue = new RequestQueue<number>(new Source());
  queue.push([1]);
  queue.end();
  queue.push([2]);
  assert.deepEqual(await queue.next(), { done: false, value: 1 });
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
});

test("a failure comes at once, and stays", async () => {
  const queue = new RequestQueue<number>(new Source());
  const waiting = queue.next();
  queue.fail(new Error("gone"));
  await assert.rejects(waiting, /gone/);
  queue.end();
  await assert.rejects(queue.next(), /gone/);
});

test("a handler that wants no more lets the rest be read and dropped", async () => {
  const source = new Source();
  const queue = new RequestQueue<number>(source);
  queue.push([1, 2]);
  await queue.return();
  assert.equal(source.isPaused, false);
  queue.push([3]);
  assert.equal(source.isPaused, false);
  assert.deepEqual(await queue.next(), { done: true, value: undefined });
});
