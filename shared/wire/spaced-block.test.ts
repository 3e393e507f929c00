import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { messagePrefixBytes } from "./grpc/grpc-wire.ts";
import { frameBytesMax } from "./http2/limits.ts";
import { frameHeadBytes } from "./http2/protocol.ts";
import { SpacedBlock } from "./spaced-block.ts";

test("the pieces are the message, fit into frames, and have room for heads that no byte of the block is in", () => {
  const sizes = fc.oneof(
    fc.nat(100),
    fc.integer({ min: frameBytesMax - 50, max: frameBytesMax + 50 }),
    fc.nat(200_000),
  );
  fc.assert(
    fc.property(sizes, sizes, fc.uint8Array({ minLength: 1, maxLength: 32 }), (first, second, head) => {
      const block = new SpacedBlock(Math.max(first, second));
      for (const sizeBytes of [first, second, first]) {
        const bytes = Buffer.alloc(sizeBytes, `${sizeBytes} bytes, `);
        let at = 0;
        for (const view of block.views(sizeBytes)) {
          view.set(bytes.subarray(at, at + view.byteLength));
          at += view.byteLength;
        }
        assert.equal(at, sizeBytes);
        const message = block.message(head, sizeBytes);
        for (const { memory, start, end } of message.pieces) {
          assert.ok(end - start <= frameBytesMax);
          memory.fill(0xff, start - frameHeadBytes, start);
        }
        const sent = Buffer.concat(message.pieces.map(({ memory, start, end }) => memory.subarray(start, end)));
        assert.equal(sent.readUIntBE(0, messagePrefixBytes), head.length + sizeBytes);
        assert.deepEqual(sent.subarray(messagePrefixBytes), Buffer.concat([head, bytes]));
        assert.deepEqual(Buffer.from(message.bytes), Buffer.concat([head, bytes]));
      }
    }),
  );
});
