import assert from "node:assert/strict";
import http2 from "node:http2";
import { Duplex } from "node:stream";
import test from "node:test";
import * as fc from "fast-check";
import { FieldForm, HeaderDecoder } from "./header-decoder.ts";
import { encodeHeaderBlock } from "./header-encoder.ts";
import { ConnectionFault, ErrorCode } from "./protocol.ts";
import { type HeaderField, staticFields } from "./static-table.ts";

function decode(decoder: HeaderDecoder, block: Buffer): HeaderField[] {
  const fields: HeaderField[] = [];
  decoder.begin(block, 0, block.length);
  while (decoder.next()) {
    fields.push([decoder.name, decoder.value]);
  }
  return fields;
}

function hex(...lines: string[]): Buffer {
  return Buffer.from(lines.join("").replaceAll(" ", ""), "hex");
}

function isCompressionError(error: unknown): boolean {
  return error instanceof ConnectionFault && error.code === ErrorCode.CompressionError;
}

const requests: HeaderField[][] = [
  [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
  ],
  [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
    ["cache-control", "no-cache"],
  ],
  [
    [":method", "GET"],
    [":scheme", "https"],
    [":path", "/index.html"],
    [":authority", "www.example.com"],
    ["custom-key", "custom-value"],
  ],
];

test("RFC 7541 C.2: each form of a field", () => {
  const inserted = new HeaderDecoder();
  assert.deepEqual(decode(inserted, hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")), [
    ["custom-key", "custom-header"],
  ]);
  assert.equal(inserted.form, FieldForm.Inserted);
  assert.equal(inserted.tableBytes, 55);

  const literal = new HeaderDecoder();
  assert.deepEqual(decode(literal, hex("040c 2f73 616d 706c 652f 7061 7468")), [[":path", "/sample/path"]]);
  assert.equal(literal.form, FieldForm.Literal);
  assert.equal(literal.tableBytes, 0);

  const never = new HeaderDecoder();
  assert.deepEqual(decode(never, hex("1008 7061 7373 776f 7264 0673 6563 7265 74")), [["password", "secret"]]);
  assert.equal(never.form, FieldForm.NeverIndexed);

  const indexed = new HeaderDecoder();
  assert.deepEqual(decode(indexed, hex("82")), [[":method", "GET"]]);
  assert.equal(indexed.form, FieldForm.Static);
});

test("RFC 7541 C.3: requests without Huffman coding", () => {
  const decoder = new HeaderDecoder();
  assert.deepEqual(decode(decoder, hex("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d")), requests[0]);
  assert.equal(decoder.tableBytes, 57);
  assert.deepEqual(decode(decoder, hex("8286 84be 5808 6e6f 2d63 6163 6865")), requests[1]);
  assert.equal(decoder.tableBytes, 110);
  assert.deepEqual(
    decode(decoder, hex("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65")),
    requests[2],
  );
  assert.equal(decoder.tableBytes, 164);
});

test("RFC 7541 C.4: requests with Huffman coding", () => {
  const decoder = new HeaderDecoder();
  assert.deepEqual(decode(decoder, hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")), requests[0]);
  assert.deepEqual(decode(decoder, hex("8286 84be 5886 a8eb 1064 9cbf")), requests[1]);
  assert.deepEqual(decode(decoder, hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")), requests[2]);
  assert.equal(decoder.tableBytes, 164);
});

const responses: HeaderField[][] = [
  [
    [":status", "302"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
    ["location", "https://www.example.com"],
  ],
  [
    [":status", "307"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
    ["location", "https://www.example.com"],
  ],
  [
    [":status", "200"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:22 GMT"],
    ["location", "https://www.example.com"],
    ["content-encoding", "gzip"],
    ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
  ],
];

/** The size update that makes the table as small as in the examples. */
const tableOf256Bytes = hex("3fe101");

test("RFC 7541 C.5: responses that evict each other from a table of 256 bytes", () => {
  const decoder = new HeaderDecoder();
  const first = hex(
    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133",
    "2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
  );
  assert.deepEqual(decode(decoder, Buffer.concat([tableOf256Bytes, first])), responses[0]);
  assert.equal(decoder.tableBytes, 222);
  assert.deepEqual(decode(decoder, hex("4803 3330 37c1 c0bf")), responses[1]);
  assert.equal(decoder.tableBytes, 222);
  const third = hex(
    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f",
    "6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b",
    "2076 6572 7369 6f6e 3d31",
  );
  assert.deepEqual(decode(decoder, third), responses[2]);
  assert.equal(decoder.tableBytes, 215);
});

test("RFC 7541 C.6: the same responses with Huffman coding", () => {
  const decoder = new HeaderDecoder();
  const first = hex(
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7",
    "8f0b 97c8 e9ae 82ae 43d3",
  );
  assert.deepEqual(decode(decoder, Buffer.concat([tableOf256Bytes, first])), responses[0]);
  assert.deepEqual(decode(decoder, hex("4883 640e ffc1 c0bf")), responses[1]);
  const third = hex(
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335",
    "dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
  );
  assert.deepEqual(decode(decoder, third), responses[2]);
  assert.equal(decoder.tableBytes, 215);
});

test("malformed blocks are compression errors", () => {
  const malformed = {
    "index 0": "80",
    "an index in no table": "be",
    "a name in no table": "7e0161",
    "a string longer than the block": "000561",
    "a missing value": "000161",
    "a missing name": "00",
    "an endless integer": "ffffffffffffffffff",
    "a cut integer": "ff",
    "a size update behind a field": "8220",
    "a size update above the setting": "3fe21f",
    "bad Huffman padding": "008164008100",
  };
  for (const [what, block] of Object.entries(malformed)) {
    assert.throws(() => decode(new HeaderDecoder(), hex(block)), isCompressionError, what);
  }
});

test("a table that was forbidden is refused, and what it held is gone after the update to 0", () => {
  const decoder = new HeaderDecoder();
  decode(decoder, hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"));
  decoder.limitTable(0);
  assert.deepEqual(decode(decoder, hex("be")), [["custom-key", "custom-header"]], "until the update comes");
  assert.deepEqual(decode(decoder, hex("2082")), [[":method", "GET"]]);
  assert.equal(decoder.tableBytes, 0);
  assert.throws(() => decode(decoder, hex("be")), isCompressionError);
  assert.throws(() => decode(decoder, hex("21")), isCompressionError);
});

test("any octets are decoded or refused, never anything else", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 4 }), (blocks) => {
      const decoder = new HeaderDecoder();
      try {
        for (const block of blocks) {
          decode(decoder, Buffer.from(block));
        }
      } catch (error) {
        assert.ok(isCompressionError(error), String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

const token = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
const text = fc.stringMatching(/^[!-~]([ -~]{0,60}[!-~])?$/);
const fieldLists = fc.array(fc.oneof(fc.tuple(token, text), fc.constantFrom(...staticFields)), { maxLength: 12 });

test("what the encoder writes is read back and needs no table", () => {
  fc.assert(
    fc.property(fieldLists, (fields) => {
      const decoder = new HeaderDecoder();
      assert.deepEqual(decode(decoder, encodeHeaderBlock(fields)), fields);
      assert.equal(decoder.tableBytes, 0);
    }),
  );
});

/** Octets that Node's own HTTP/2 client writes for requests with these headers, all on one connection. */
async function blocksOfNode(requestHeaders: readonly Record<string, string>[]): Promise<Buffer[]> {
  const written: Buffer[] = [];
  const socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      written.push(chunk);
      done();
    },
  });
  const session = http2.connect("http://localhost", { createConnection: () => socket });
  session.on("error", () => undefined);
  for (const headers of requestHeaders) {
    session.request(headers).on("error", () => undefined);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise((resolve) => setImmediate(resolve));
  session.destroy();
  const blocks: Buffer[] = [];
  const bytes = Buffer.concat(written);
  for (let at = 24; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === 1) {
      blocks.push(bytes.subarray(at + 9, at + 9 + bytes.readUIntBE(at, 3)));
    }
  }
  return blocks;
}

test("what Node's encoder writes, table and Huffman coding and all, is read", async () => {
  const headerSets = fc.array(fc.dictionary(fc.stringMatching(/^x-[a-z]{1,8}$/), text, { maxKeys: 5 }), {
    minLength: 1,
    maxLength: 5,
  });
  await fc.assert(
    fc.asyncProperty(headerSets, async (sets) => {
      const blocks = await blocksOfNode(sets);
      assert.equal(blocks.length, sets.length);
      const decoder = new HeaderDecoder();
      for (const [index, set] of sets.entries()) {
        const fields = decode(decoder, blocks[index] ?? Buffer.alloc(0));
        assert.deepEqual(Object.fromEntries(fields.filter(([name]) => name.startsWith("x-"))), { ...set });
      }
    }),
    { numRuns: 50 },
  );
});
