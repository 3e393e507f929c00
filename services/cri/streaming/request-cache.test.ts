import assert from "node:assert/strict";
import test from "node:test";
import { RequestCache } from "./request-cache.ts";

test("a request is given out once", () => {
  const cache = new RequestCache<string>();
  const [first, second] = [cache.insert("a"), cache.insert("b")];
  assert.match(first, /^[\w-]{16}$/);
  assert.equal(cache.consume(second), "b");
  assert.equal(cache.consume(second), undefined);
  assert.equal(cache.consume(first), "a");
  assert.equal(cache.consume("other"), undefined);
});

test("a request is good for a minute", () => {
  let nowMs = 0;
  const cache = new RequestCache<string>(() => nowMs);
  const [first, second] = [cache.insert("a"), cache.insert("b")];
  nowMs = 60_000;
  assert.equal(cache.consume(first), "a");
  nowMs = 60_001;
  assert.equal(cache.consume(second), undefined);
});

test("no more than a thousand wait, and old ones make room", () => {
  let nowMs = 0;
  const cache = new RequestCache<number>(() => nowMs);
  for (let index = 0; index < 1000; index += 1) {
    cache.insert(index);
  }
  assert.throws(() => cache.insert(1000), {
    kind: "resource exhausted",
    message: "maximum number of in-flight requests exceeded",
  });
  nowMs = 60_001;
  cache.insert(1001);
});
