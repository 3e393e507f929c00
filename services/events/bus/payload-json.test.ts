import assert from "node:assert/strict";
import test from "node:test";
import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  type Message,
  ScalarType,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import * as fc from "fast-check";
import { typeRegistry } from "#wire/connect/type-registry.ts";
import { findJson } from "./payload-json.ts";

const schemas = [...typeRegistry].filter(
  (type): type is DescMessage => type.kind === "message" && type.typeName.startsWith("containerd."),
);

const int64 = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n });

function valueOf(field: DescField, depth: number): fc.Arbitrary<unknown> {
  switch (field.fieldKind) {
    case "scalar":
      return scalarOf(field.scalar);
    case "message":
      return fc.option(messageOf(field.message, depth + 1), { nil: undefined });
    case "list":
      return fc.array(
        field.listKind === "message"
          ? messageOf(field.message, depth + 1)
          : scalarOf(field.listKind === "scalar" ? field.scalar : ScalarType.INT32),
        { maxLength: 3 },
      );
    case "map":
      return field.mapKind === "scalar" && field.scalar === ScalarType.STRING
        ? fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 })
        : fc.constant({});
    default:
      return fc.constant(0);
  }
}

function scalarOf(scalar: ScalarType): fc.Arbitrary<unknown> {
  switch (scalar) {
    case ScalarType.STRING:
      return fc.string({ unit: "grapheme" });
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.BYTES:
      return fc.uint8Array();
    case ScalarType.INT64:
    case ScalarType.SINT64:
      return int64;
    case ScalarType.UINT64:
      return fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
    case ScalarType.UINT32:
      return fc.nat();
    default:
      return fc.integer();
  }
}

function messageOf(schema: DescMessage, depth: number): fc.Arbitrary<Message> {
  if (schema.typeName === TimestampSchema.typeName) {
    const nanos = fc.oneof(fc.constantFrom(0, 500_000_000, 120_000, 7), fc.nat(999_999_999));
    const seconds = fc.bigInt({ min: -62_135_596_800n, max: 253_402_300_799n });
    return fc.record({ seconds, nanos }).map((fields) => create(TimestampSchema, fields));
  }
  const isOpen = depth < 4 && !schema.typeName.startsWith("google.protobuf.");
  const fields = isOpen ? schema.fields.filter(({ oneof }) => oneof === undefined) : [];
  const values = Object.fromEntries(fields.map((field) => [field.localName, valueOf(field, depth)]));
  return fc.record(values).map((given) => create(schema, given as never));
}

test("JSON is what the library makes, for every message that is written here", () => {
  const written: string[] = [];
  for (const schema of schemas) {
    fc.assert(
      fc.property(messageOf(schema, 0), (made) => {
        const message = fromBinary(schema, toBinary(schema, made));
        const json = findJson(schema, message);
        if (json !== undefined) {
          written.push(schema.typeName);
          assert.equal(json, JSON.stringify(toJson(schema, message, { registry: typeRegistry })));
        }
      }),
      { numRuns: 20 },
    );
  }
  const names = new Set(written);
  for (const name of ["events.TaskStart", "events.TaskExit", "events.TaskCreate", "services.images.v1.ImageUpdate"]) {
    assert.ok(names.has(`containerd.${name}`), name);
  }
});

test("times that JSON can't have are left to the library", () => {
  const schema = typeRegistry.getMessage("containerd.events.TaskExit") as DescMessage;
  for (const [seconds, isWritten] of [[1n << 60n, false] as const, [0n, true] as const]) {
    const message = create(schema, { exitedAt: create(TimestampSchema, { seconds }) });
    assert.equal(findJson(schema, message) !== undefined, isWritten);
  }
});
