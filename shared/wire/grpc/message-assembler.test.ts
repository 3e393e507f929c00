import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { ErrorKind } from "#base/errors.ts";
import { messageBytesMax } from "#base/limits.ts";
import { defaultMessageLimits } from "../message-limits.ts";
import { frameMessage, messagePrefix } from "./grpc-wire.ts";
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
