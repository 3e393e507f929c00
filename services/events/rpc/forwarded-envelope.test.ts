import assert from "node:assert/strict";
import test from "node:test";
import { create, equals, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ForwardRequestSchema } from "#gen/containerd/services/events/v1/events_pb.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { readForwarded } from "./forwarded-envelope.ts";

const envelopes = fc
  .record(
    {
      timestamp: fc.record({ seconds: fc.bigInt({ min: -5n, max: 1n << 60n }), nanos: fc.integer() }),
      namespace: fc.string({ unit: "grapheme" }),
      topic: fc.string({ maxLength: 300 }),
      event: fc.record({ typeUrl: fc.string(), value: fc.uint8Array({ maxLength: 300 }) }),
    },
    { requiredKeys: [] },
  )
  .map((fields) => create(EnvelopeSchema, fields));

test("an envelope is what the library reads, in the bytes in which it came", () => {
  fc.assert(
    fc.property(envelopes, (envelope) => {
      const request = toBinary(ForwardRequestSchema, create(ForwardRequestSchema, { envelope }));
      const read = readForwarded(request);
      assert.ok(equals(EnvelopeSchema, read.envelope, envelope));
      assert.deepEqual(Buffer.from(read.encoded), Buffer.from(toBinary(EnvelopeSchema, envelope)));
    }),
  );
});

test("what is sent in another way, or is no message, is what the library makes of it", () => {
  const usual = toBinary(
    ForwardRequestSchema,
    create(ForwardRequestSchema, {
      envelope: {
        timestamp: { seconds: 1_700_000_000n, nanos: 5 },
        namespace: "n",
        topic: "/t",
        event: { typeUrl: "u", value: Buffer.from("v") },
      },
    }),
  );
  const changes = fc.array(fc.record({ at: fc.nat(usual.length - 1), octet: fc.nat(255) }), { maxLength: 3 });
  const ends = fc.uint8Array({ maxLength: 8 });
  fc.assert(
    fc.property(changes, ends, fc.nat(usual.length), (changed, end, cut) => {
      const request = Buffer.concat([usual.subarray(0, usual.length - (cut % 5)), end]);
      for (const { at, octet } of changed) {
        request[at % request.length] = octet;
      }
      let expected: ReturnType<typeof readForwarded>["envelope"];
      try {
        expected = fromBinary(ForwardRequestSchema, request).envelope ?? create(EnvelopeSchema);
      } catch {
        assert.throws(() => readForwarded(request));
        return;
      }
      const read = readForwarded(request);
      assert.ok(equals(EnvelopeSchema, read.envelope, expected));
      assert.ok(equals(EnvelopeSchema, fromBinary(EnvelopeSchema, read.encoded), expected));
    }),
    { numRuns: 2_000 },
  );
});

test("the bytes are not those of the request, which are used again", () => {
  const request = toBinary(ForwardRequestSchema, create(ForwardRequestSchema, { envelope: { topic: "/kept" } }));
  const read = readForwarded(request);
  request.fill(0);
  assert.equal(fromBinary(EnvelopeSchema, read.encoded).topic, "/kept");
});
