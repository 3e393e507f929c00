import assert from "node:assert/strict";
import test from "node:test";
import { appendInBatches } from "./append-in-batches.ts";

/** Takes what is appended, until it has failed. */
class Store {
  offset = 0;
  readonly appended: Buffer[] = [];
  readonly given: Uint8Array[] = [];
  readonly #failsAfter: number;

  constructor(failsAfter = Number.POSITIVE_INFINITY) {
    this.#failsAfter = failsAfter;
  }

  async append(data: Uint8Array): Promise<void> {
    this.given.push(data);
    await new Promise((resolve) => setImmediate(resolve));
    if (this.appended.length >= this.#failsAfter) {
      throw new Error("the store is gone");
    }
    this.appended.push(Buffer.from(data));
    this.offset += data.length;
  }

  truncate = (): Promise<void> => Promise.reject(new Error("nothing is truncated"));
  commit = (): Promise<void> => Promise.reject(new Error("nothing is committed"));
  close = (): Promise<void> => Promise.resolve();
}

const mebibyte = 1024 * 1024;

function makePieces(): Buffer[] {
  return Array.from({ length: 60 }, (_, index) => Buffer.alloc(50_000 + index, index));
}

async function* streamOf(pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

test("a stream arrives in few large pieces, and the memory of these is given back", async () => {
  const pieces = makePieces();
  const whole = Buffer.concat(pieces);
  const store = new Store();
  const offsets: number[] = [];
  await appendInBatches(store, streamOf(pieces), whole.length, (offset) => offsets.push(offset));
  assert.ok(Buffer.concat(store.appended).equals(whole));
  assert.deepEqual(offsets, [mebibyte, 2 * mebibyte, whole.length]);
  assert.ok(store.given.every(({ byteLength }) => byteLength === 0));
});

test("what was not taken stays in memory, since it may still be on its way", async () => {
  const pieces = makePieces();
  const store = new Store(1);
  await assert.rejects(
    appendInBatches(store, streamOf(pieces), 50 * mebibyte, () => undefined),
    /the store is gone/,
  );
  assert.ok(store.given.every(({ byteLength }) => byteLength > 0));
});
