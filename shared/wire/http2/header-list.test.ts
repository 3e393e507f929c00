import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { HeaderDecoder } from "./header-decoder.ts";
import { HeaderReader } from "./header-list.ts";
import { headerListBytesMax } from "./limits.ts";
import type { HeaderField } from "./static-table.ts";

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(" ", ""), "hex");
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
  const reader = new HeaderReader();
  const list = reader.read(stateless, 0, stateless.length);
  assert.equal(reader.isVerbatim, true);
  assert.equal(list.block.toString("hex"), stateless.toString("hex"));
  assert.equal(list.request.path, "/a/b");
  assert.equal(list.request.contentType, "application/grpc");
});

test("a block that is the same again is not read again, wherever it comes", () => {
  const first = new HeaderReader().read(stateless, 0, stateless.length);
  const reader = new HeaderReader();
  const within = Buffer.concat([Buffer.from("xx"), stateless, Buffer.from("y")]);
  assert.equal(reader.read(within, 2, 2 + stateless.length), first);
  assert.equal(reader.isVerbatim, true);
});

test("an indexed block that is the same again means something else when the table has changed", () => {
  const reader = new HeaderReader();
  const insert = (value: string): void => void reader.read(hex(`400161 01${value}`), 0, 5);
  insert("62");
  const first = reader.read(hex("be"), 0, 1);
  assert.deepEqual(first.fields, ["a", "b"]);
  assert.equal(reader.read(hex("be"), 0, 1), first);
  assert.equal(reader.isVerbatim, false);
  insert("63");
  assert.deepEqual(reader.read(hex("be"), 0, 1).fields, ["a", "c"]);
  assert.throws(() => reader.read(hex("20 be"), 0, 2), { name: "ConnectionFault" });
});

test("spelt names are known too", () => {
  const spelt = hex("00053a70617468042f612f62 000c636f6e74656e742d74797065036e6577");
  const { request } = new HeaderReader().read(spelt, 0, spelt.length);
  assert.equal(request.path, "/a/b");
  assert.equal(request.contentType, "new");
});

test("table size updates are not forwarded", () => {
  const reader = new HeaderReader();
  const updated = Buffer.concat([hex("20 3fe11f"), stateless]);
  const list = reader.read(updated, 0, updated.length);
  assert.equal(reader.isVerbatim, false);
  assert.equal(list.block.toString("hex"), stateless.toString("hex"));
});

test("what goes into the table and what comes from it is spelt out, the rest stays", () => {
  const reader = new HeaderReader();
  const inserting = hex("83 44042f612f62 400161 0162 10017306736563726574");
  const inserted = reader.read(inserting, 0, inserting.length);
  assert.equal(reader.isVerbatim, false);
  assert.equal(inserted.block.toString("hex"), hex("83 04042f612f62 000161 0162 10017306736563726574").toString("hex"));

  const referring = hex("83 be bf 0f2f0163");
  const referred = reader.read(referring, 0, referring.length);
  assert.equal(referred.block.toString("hex"), hex("83 000161 0162 04042f612f62 0001610163").toString("hex"));
  assert.equal(referred.request.path, "/a/b");
});

test("a name from the table keeps a secret unindexed", () => {
  const reader = new HeaderReader();
  const inserting = hex("400161 0162");
  reader.read(inserting, 0, inserting.length);
  const referring = hex("1f2f 0163");
  assert.equal(reader.read(referring, 0, referring.length).block.toString("hex"), hex("10016101 63").toString("hex"));
});

test("a list that becomes too large is noticed, and is not written out", () => {
  const reader = new HeaderReader();
  const value = Buffer.alloc(3000, "v");
  const inserting = Buffer.concat([hex("400161 7fb916"), value]);
  assert.equal(reader.read(inserting, 0, inserting.length).isTooLarge, false);
  const bomb = Buffer.alloc(30_000, 0xbe);
  const list = reader.read(bomb, 0, bomb.length);
  assert.equal(list.isTooLarge, true);
  assert.ok(list.block.length < headerListBytesMax * 2);
  assert.equal(reader.read(hex("be"), 0, 1).isTooLarge, false, "the table outlives it");
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
    fc.property(fc.array(fc.array(field, { maxLength: 8 }), { maxLength: 12 }), (lists) => {
      const table: HeaderField[] = [];
      const sender = new HeaderReader();
      const receiver = new HeaderDecoder();
      for (const list of lists) {
        const encoded = encodeWildly(list, table);
        const { block, fields } = sender.read(encoded, 0, encoded.length);
        assert.deepEqual(
          fields,
          list.flatMap(([name, value]) => [name, value]),
        );
        const received = fieldsOf(receiver, block);
        assert.deepEqual(
          received,
          list.map(([name, value]) => [name, value]),
        );
        assert.equal(receiver.tableBytes, 0);
      }
    }),
  );
});
