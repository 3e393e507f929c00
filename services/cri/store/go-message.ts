import { create, type DescField, type DescMessage, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { ErrorKind, failure } from "#base/errors.ts";

/** A value of JSON, whole numbers of 64 bits as bigint. */
export type ExactValue = unknown;

/**
 * A message as Go's `encoding/json` writes the structure that is made of it: fields under their names in the .proto file, numbers of enumerations, whole numbers as numbers, bytes in
 * base64, and without what is empty. containerd keeps messages of the kubelet in its records so.
 *
 * @returns What `formatExactJson` writes.
 * @source golang/protobuf, structure tags of generated code; containerd v2.3.4 internal/cri/store/container/metadata.go
 */
export function toGoJson<D extends DescMessage>(schema: D, message: MessageShape<D>): Record<string, ExactValue> {
  return messageToGo(reflect(schema, message));
}

function messageToGo(message: ReflectMessage): Record<string, ExactValue> {
  const result: Record<string, ExactValue> = {};
  for (const field of message.fields) {
    if (message.isSet(field)) {
      result[field.name] = fieldToGo(message, field);
    }
  }
  return result;
}

function fieldToGo(message: ReflectMessage, field: DescField): ExactValue {
  switch (field.fieldKind) {
    case "message":
      return messageToGo(message.get(field));
    case "list":
      return Array.from(message.get(field), (item) =>
        field.listKind === "message" ? messageToGo(item as ReflectMessage) : scalarToGo(item),
      );
    case "map":
      return Object.fromEntries(
        [...message.get(field)]
          .map(([key, value]) => [String(key), scalarToGo(value)] as const)
          .sort(([one], [other]) => (one < other ? -1 : 1)),
      );
    default:
      return scalarToGo(message.get(field));
  }
}

function scalarToGo(value: unknown): ExactValue {
  return value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value;
}

/**
 * Reads a message that Go's `encoding/json` wrote. Fields that the message does not have are passed over.
 *
 * @param value - What `parseExactJson` read.
 * @throws {@link FlotillaError} `invalid_argument` when a field is not what it must be.
 */
export function fromGoJson<D extends DescMessage>(schema: D, value: ExactValue): MessageShape<D> {
  return create(schema, initOf(schema, value) as Parameters<typeof create<D>>[1]);
}

function initOf(schema: DescMessage, value: ExactValue): Record<string, unknown> {
  const source = recordOf(value, schema.name);
  const init: Record<string, unknown> = {};
  for (const field of schema.fields) {
    const present = source[field.name];
    if (present !== undefined && present !== null) {
      init[field.localName] = fieldFromGo(field, present);
    }
  }
  return init;
}

function fieldFromGo(field: DescField, value: ExactValue): unknown {
  switch (field.fieldKind) {
    case "message":
      return initOf(field.message, value);
    case "list":
      if (!Array.isArray(value)) {
        throw unfit(field.name);
      }
      return field.listKind === "message"
        ? value.map((item: unknown) => initOf(field.message, item))
        : value.map((item: unknown) =>
            scalarFromGo(field.name, field.listKind === "scalar" ? field.scalar : undefined, item),
          );
    case "map":
      return { ...recordOf(value, field.name) };
    default:
      return scalarFromGo(field.name, field.fieldKind === "scalar" ? field.scalar : undefined, value);
  }
}

const largeIntegers: ReadonlySet<ScalarType | undefined> = new Set([
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
]);

function scalarFromGo(name: string, type: ScalarType | undefined, value: ExactValue): unknown {
  if (largeIntegers.has(type)) {
    if (typeof value !== "bigint" && !(typeof value === "number" && Number.isInteger(value))) {
      throw unfit(name);
    }
    return BigInt(value);
  }
  const wanted =
    type === ScalarType.BOOL
      ? "boolean"
      : type === ScalarType.STRING || type === ScalarType.BYTES
        ? "string"
        : "number";
  if (typeof value !== wanted) {
    throw unfit(name);
  }
  return type === ScalarType.BYTES ? new Uint8Array(Buffer.from(value as string, "base64")) : value;
}

function recordOf(value: ExactValue, name: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw unfit(name);
  }
  return value as Readonly<Record<string, unknown>>;
}

function unfit(name: string): Error {
  return failure(ErrorKind.InvalidArgument, `${name} is not what it must be`);
}
