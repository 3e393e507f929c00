import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { HeaderBlock } from "./header-block.ts";
import { HeaderDecoder } from "./header-decoder.ts";
import { headerListBytesMax } from "./limits.ts";
import type { HeaderField } from "./static-table.ts";

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(" ", ""), "hex");
}

function forwarded(block: HeaderBlock): string {
  return block.buffer.toString("hex", block.start, block.end);
}

function fieldsOf(decoder: HeaderDecoder, block: Buffer): HeaderField[] {
  const fields: HeaderField[] = [];
  decoder.begin(block, 0, block.length);
  while (decoder.next()) {
    fields.push([decoder.name, decoder.value]);
  }
  return fields;
}

/** `:method: POST`, `:path: /a/b` and `content-type: application/grpc` as literals, then a secret that must not be indexed. */
const stateless = hex("83 04042f612f62 0f10106170706c69636174696f6e2f67727063 10017306736563726574");

test("a block without the table is forwarded as it is, and tells where it goes", () => {
  const block = new HeaderBlock("request");
  block.read(new HeaderDecoder(), stateless, 0, stateless.length);
  assert.equal(block.isVerbatim, true);
  assert.equal(forwarded(block), stateless.toString("hex"));
  assert.equal(block.path, "/a/b");
  assert.equal(block.contentType, "application/grpc");
});

test("spelt names are known too", () => {
  const block = new HeaderBlock("request");
  const spelt = hex("00053a70617468042f612f62 000c636f6e74656e742d74797065036e6577");
  block.read(new HeaderDecoder(), spelt, 0, spelt.length);
  assert.equal(block.path, "/a/b");
  assert.equal(block.contentType, "new");
});

test("table size updates are not forwarded", () => {
  const block = new HeaderBlock("request");
  const updated = Buffer.concat([hex("20 3fe11f"), stateless]);
  block.read(new HeaderDecoder(), updated, 0, updated.length);
  assert.equal(block.isVerbatim, false);
  assert.equal(forwarded(block), stateless.toString("hex"));
});

test("what goes into the table and what comes from it is spelt out, the rest stays", () => {
  const decoder = new HeaderDecoder();
  const block = new HeaderBlock("request");
  const inserting = hex("83 44042f612f62 400161 0162 10017306736563726574");
  block.read(decoder, inserting, 0, inserting.length);
  assert.equal(block.isVerbatim, false);
  assert.equal(forwarded(block), hex("83 04042f612f62 000161 0162 10017306736563726574").toString("hex"));

  const referring = hex("83 be bf 0f2f0163");
  block.read(decoder, referring, 0, referring.length);
  assert.equal(forwarded(block), hex("83 000161 0162 04042f612f62 0001610163").toString("hex"));
  assert.equal(block.path, "/a/b");
});

test("a name from the table keeps a secret unindexed", () => {
  const decoder = new HeaderDecoder();
  const block = new HeaderBlock("request");
  const inserting = hex("400161 0162");
  block.read(decoder, inserting, 0, inserting.length);
  const referring = hex("1f2f 0163");
  block.read(decoder, referring, 0, referring.length);
  assert.equal(forwarded(block), hex("10016101 63").toString("hex"));
});

test("a list that becomes too large is noticed, and is not written out", () => {
  const decoder = new HeaderDecoder();
  const block = new HeaderBlock("request");
  const value = Buffer.alloc(3000, "v");
  const inserting = Buffer.concat([hex("400161 7fb916"), value]);
  block.read(decoder, inserting, 0, inserting.length);
  assert.equal(block.isTooLarge, false);
  const bomb = Buffer.alloc(30_000, 0xbe);
  block.read(decoder, bomb, 0, bomb.length);
  assert.equal(block.isTooLarge, true);
  assert.ok(block.end - block.start < headerListBytesMax * 2);
  block.read(decoder, hex("be"), 0, 1);
  assert.equal(block.isTooLarge, false, "the table outlives it");
});

/** Encodes fields with whatever forms the numbers choose, and keeps the table that an encoder keeps. */
function encodeWildly(
  fields: readonly (readonly [name: string, value: string, form: number])[],
  table: HeaderField[],
): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value, form] of fields) {
    const known = table.findIndex(([knownName, knownValue]) => knownName === name && knownValue === value);
    const literal = Buffer.concat([
      Buffer.from([name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]);
    if (known !== -1) {
      parts.push(Buffer.from([0x80 | (62 + known)]));
    } else if (form === 1) {
      parts.push(Buffer.from([0x40]), literal);
      table.unshift([name, value]);
    } else {
      parts.push(Buffer.from([form === 2 ? 0x10 : 0x00]), literal);
    }
  }
  return Buffer.concat(parts);
}

test("a rewritten block means to a decoder without table what the block means to one with it", () => {
  const field = fc.tuple(
    fc.constantFrom("a", "b", "x-long-name"),
    fc.constantFrom("1", "two"),
    fc.integer({ min: 0, max: 2 }),
  );
  fc.assert(
    fc.property(fc.array(fc.array(field, { maxLength: 8 }), { maxLength: 5 }), (lists) => {
      const table: HeaderField[] = [];
      const sender = new HeaderDecoder();
      const receiver = new HeaderDecoder();
      const block = new HeaderBlock("request");
      for (const list of lists) {
        const encoded = encodeWildly(list, table);
        block.read(sender, encoded, 0, encoded.length);
        const received = fieldsOf(receiver, block.buffer.subarray(block.start, block.end));
        assert.deepEqual(
          received,
          list.map(([name, value]) => [name, value]),
        );
        assert.equal(receiver.tableBytes, 0);
      }
    }),
  );
});
