import assert from "node:assert/strict";
import test from "node:test";
import { ReadBuffer } from "./read-buffer.ts";

const small = 16 * 1024;

test("memory that nobody holds is read into again", () => {
  const reads = new ReadBuffer();
  const first = reads.next();
  reads.take(10).release();
  assert.equal(reads.next(), first);
});

test("memory that somebody holds is left alone until it is released", () => {
  const reads = new ReadBuffer();
  const first = reads.next();
  const chunk = reads.take(10);
  chunk.hold();
  chunk.release();
  const second = reads.next();
  assert.notEqual(second, first);
  chunk.release();
  reads.take(10).release();
  assert.equal(reads.next(), second);
});

test("a read that fills the memory makes it larger, many small ones make it small again", () => {
  const reads = new ReadBuffer();
  assert.equal(reads.next().length, small);
  reads.take(small).release();
  const large = reads.next();
  assert.ok(large.length > small);
  for (let read = 0; read < 64; read += 1) {
    assert.equal(reads.next(), large);
    reads.take(100).release();
  }
  reads.take(100).release();
  assert.equal(reads.next().length, small);
});

test("large memory goes from one socket to the next", () => {
  const one = new ReadBuffer();
  one.next();
  one.take(small).release();
  const large = one.next();
  const chunk = one.take(large.length);
  one.next();
  chunk.release();
  const other = new ReadBuffer();
  other.next();
  other.take(small).release();
  assert.equal(other.next(), large);
});

test("a chunk is what was read and no more", () => {
  const reads = new ReadBuffer();
  reads.next().write("hello there");
  const chunk = reads.take(5);
  assert.equal(chunk.bytes.toString(), "hello");
  assert.equal(chunk.isReused, true);
});
