import assert from "node:assert/strict";
import test from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import * as fc from "fast-check";
import { ErrorKind } from "#base/errors.ts";
import { messageBytesMax } from "#base/limits.ts";
import { Chunk } from "../http2/chunk.ts";
import { defaultMessageLimits } from "../message-limits.ts";
import { frameMessage, messagePrefix, messagePrefixBytes } from "./grpc-wire.ts";
import { MessageAssembler } from "./message-assembler.ts";

/** Bytes of tests belong to no socket. */
const nobody = { messageLimits: defaultMessageLimits, keepChunk: () => undefined };

test("messages come out whole, however the stream was cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
      (messages, sizes) => {
        const stream = Buffer.concat(messages.map((message) => frameMessage(message)));
        const assembler = new MessageAssembler(nobody);
        const found: Uint8Array[] = [];
        for (let at = 0, turn = 0; at < stream.length; turn += 1) {
          const size = sizes[turn % sizes.length] ?? 1;
          found.push(...assembler.push(stream, at, Math.min(stream.length, at + size)));
          at += size;
        }
        assert.deepEqual(Buffer.concat(found.map((message) => frameMessage(message))), stream);
        assert.equal(assembler.isInside, false);
      },
    ),
  );
});

test("a stream that stops within a message is told from one that stops after it", () => {
  const framed = frameMessage(Buffer.from("message"));
  for (let cut = 1; cut < framed.length; cut += 1) {
    const assembler = new MessageAssembler(nobody);
    assert.deepEqual(assembler.push(framed, 0, cut), []);
    assert.equal(assembler.isInside, true, `cut at ${cut}`);
  }
});

test("a message that is compressed or too large is refused by its prefix alone", () => {
  assert.throws(() => new MessageAssembler(nobody).push(Buffer.from([1, 0, 0, 0, 1]), 0, 5), {
    kind: ErrorKind.Internal,
  });
  assert.throws(() => new MessageAssembler(nobody).push(messagePrefix(messageBytesMax + 1), 0, 5), {
    kind: ErrorKind.ResourceExhausted,
  });
  assert.deepEqual(new MessageAssembler(nobody).push(messagePrefix(messageBytesMax), 0, 5), []);
  const strict = { ...nobody, messageLimits: { receivedBytes: 10 } };
  assert.throws(() => new MessageAssembler(strict).push(messagePrefix(11), 0, 5), {
    kind: ErrorKind.ResourceExhausted,
    message: /\(11 vs\. 10\)/,
  });
});

test("a large message that was given back lends its memory to the next, and small ones to none", () => {
  const assembler = new MessageAssembler(nobody);
  const receive = (sizeBytes: number, fill: number): Uint8Array => {
    const framed = frameMessage(Buffer.alloc(sizeBytes, fill));
    const found: Uint8Array[] = [];
    for (let at = 0; at < framed.length; at += 16_384) {
      found.push(...assembler.push(framed, at, Math.min(framed.length, at + 16_384)));
    }
    assert.equal(found.length, 1);
    return found[0] as Uint8Array;
  };
  const first = receive(32_000, 1);
  assembler.reuse(first);
  const second = receive(30_000, 2);
  assert.ok(second.buffer === first.buffer);
  assert.deepEqual(Buffer.from(second), Buffer.alloc(30_000, 2));
  const third = receive(32_000, 3);
  assert.ok(third.buffer !== second.buffer);
  assert.deepEqual(Buffer.from(second), Buffer.alloc(30_000, 2));
  assembler.reuse(second);
  const larger = receive(40_000, 4);
  assert.ok(larger.buffer !== second.buffer);
  assembler.reuse(larger);
  const alike = receive(40_003, 4);
  assert.ok(alike.buffer === larger.buffer, "a few bytes more");
  const small = receive(16_000, 5);
  assembler.reuse(small);
  receive(17_000, 6);
  assert.deepEqual(Buffer.from(small), Buffer.alloc(16_000, 5));
});

test("a message without bytes can be read when the memory that it came in has been given back", () => {
  const bytes = Buffer.from(new ArrayBuffer(16 * 1024));
  frameMessage(new Uint8Array()).copy(bytes);
  const chunk = Chunk.tryOwn(bytes);
  const [message] = new MessageAssembler(nobody).push(bytes, 0, messagePrefixBytes);
  chunk?.release();
  assert.equal(bytes.buffer.byteLength, 0, "the memory is gone");
  assert.ok(message !== undefined);
  fromBinary(EmptySchema, message);
});
