import { type DescMessage, type DescMethod, ScalarType } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** How much of a request is looked at. Clients write what names a thing at the beginning, and specifications behind it. */
const lookBytesMax = 16_384;
/** A longer name is cut: no name of a thing is as long. */
const nameLengthMax = 512;
/** Of a message of gRPC and of a stream of Connect: a byte of flags and the length. @source gRPC over HTTP/2, Length-Prefixed-Message */
const prefixBytes = 5;

/** Fields that say what a call is about. None of them ever holds a secret. */
const nameFields = new Set([
  "container_id",
  "digest",
  "exec_id",
  "expected",
  "id",
  "image",
  "key",
  "name",
  "namespace",
  "pod_sandbox_id",
  "ref",
  "sandbox_id",
  "snapshotter",
  "topic",
  "type",
  "uid",
]);

/** Messages within the request that have such fields. */
const namedMessages = new Set([
  "config",
  "container",
  "diff",
  "envelope",
  "image",
  "info",
  "metadata",
  "namespace",
  "resource",
  "sandbox",
]);

/** What a transfer is from and to: the field of the message in an Any that names it. Others hold credentials and headers. */
const transferNames: ReadonlyMap<string, readonly [number: number, jsonName: string]> = new Map([
  ["containerd.types.transfer.ImageStore", [1, "name"]],
  ["containerd.types.transfer.OCIRegistry", [1, "reference"]],
]);

/** A field that names a thing, leads to one, or holds a message of a kind that it tells itself. */
interface ObjectField {
  readonly name: string;
  readonly jsonName: string;
  readonly holds: "text" | "any" | ObjectFields;
}

/** The fields of a message that are looked at, by their numbers. */
export type ObjectFields = ReadonlyMap<number, ObjectField>;

/** What a call is about: names by the paths of the fields that hold them, such as `container.id`. */
export type CallObject = Record<string, string>;

/** The fields of a method's request that name what it is about. */
export function objectFieldsOf({ input }: DescMethod): ObjectFields {
  return fieldsOf(input, 0);
}

function fieldsOf({ fields }: DescMessage, depth: number): ObjectFields {
  const found = new Map<number, ObjectField>();
  for (const field of fields) {
    const { name, jsonName, number } = field;
    const isText = field.fieldKind === "scalar" && field.scalar === ScalarType.STRING;
    if (isText && nameFields.has(name)) {
      found.set(number, { name, jsonName, holds: "text" });
    } else if (field.fieldKind === "message" && field.message.typeName === "google.protobuf.Any") {
      if (name === "source" || name === "destination") {
        found.set(number, { name, jsonName, holds: "any" });
      }
    } else if (field.fieldKind === "message" && namedMessages.has(name) && depth < 2) {
      const holds = fieldsOf(field.message, depth + 1);
      if (holds.size > 0) {
        found.set(number, { name, jsonName, holds });
      }
    }
  }
  return found;
}

/**
 * Finds out what a call is about, from the beginning of its first message. It changes nothing of what is passed on, and tells nothing where it can't read: a
 * message that is compressed, or JSON that is longer than what is looked at.
 */
export class ObjectReader {
  readonly #fields: ObjectFields;
  readonly #isPrefixed: boolean;
  readonly #isJson: boolean;
  #bytes: Buffer = Buffer.alloc(0);
  #isOver = false;
  #object: CallObject | undefined;

  /** @param contentType - That of the request, which says how messages are written. */
  constructor(fields: ObjectFields, contentType: string) {
    this.#fields = fields;
    this.#isPrefixed = contentType.startsWith("application/grpc") || contentType.startsWith("application/connect+");
    this.#isJson = contentType.includes("json");
    this.#isOver = fields.size === 0;
  }

  /** Takes a piece of the request, which is copied as far as it is looked at. */
  take(chunk: Buffer, start: number, end: number): void {
    if (this.#isOver || start === end) {
      return;
    }
    const taken = Math.min(end - start, lookBytesMax - this.#bytes.length);
    this.#bytes = Buffer.concat([this.#bytes, chunk.subarray(start, start + taken)]);
    if (this.#bytes.length >= this.#wantedBytes()) {
      this.#read();
    }
  }

  /** What the call is about; undefined when that can't be read. */
  get(): CallObject | undefined {
    if (!this.#isOver) {
      this.#read();
    }
    return this.#object;
  }

  #wantedBytes(): number {
    const isLengthKnown = this.#isPrefixed && this.#bytes.length >= prefixBytes;
    return isLengthKnown ? Math.min(lookBytesMax, prefixBytes + this.#bytes.readUInt32BE(1)) : lookBytesMax;
  }

  #read(): void {
    const bytes = this.#bytes;
    this.#isOver = true;
    this.#bytes = Buffer.alloc(0);
    const message = this.#isPrefixed ? messageOf(bytes) : bytes;
    if (message === undefined) {
      return;
    }
    const found: CallObject = this.#isJson ? {} : readAll(message, this.#fields);
    if (this.#isJson) {
      readJson(parseJson(message), this.#fields, "", found);
    }
    this.#object = Object.keys(found).length === 0 ? undefined : found;
  }
}

/** The first message without its prefix, or its beginning; undefined when it is compressed or not there. */
function messageOf(bytes: Buffer): Buffer | undefined {
  const flags = bytes[0] ?? 1;
  return bytes.length < prefixBytes || flags !== 0
    ? undefined
    : bytes.subarray(prefixBytes, prefixBytes + bytes.readUInt32BE(1));
}

/** Reads a message up to its end, or to where it is cut off or wrong. Of a field that comes twice the last one counts, as for whoever answers. */
function readMessage(bytes: Uint8Array, fields: ObjectFields, path: string, found: CallObject): void {
  const reader = new BinaryReader(bytes);
  try {
    while (reader.pos < reader.len) {
      const [number, wireType] = reader.tag();
      const field = wireType === WireType.LengthDelimited ? fields.get(number) : undefined;
      if (field === undefined) {
        reader.skip(wireType, number);
        continue;
      }
      const length = reader.uint32();
      const value = bytes.subarray(reader.pos, reader.pos + length);
      if (field.holds === "text") {
        note(found, path + field.name, Buffer.from(value).toString());
      } else if (field.holds === "any") {
        readAny(value, path + field.name, found);
      } else {
        readMessage(value, field.holds, `${path}${field.name}.`, found);
      }
      reader.pos += length;
    }
  } catch {
    // What stands before is known; whoever answers the call says what is wrong with it.
  }
}

/** Fields of google.protobuf.Any. */
const anyType: ObjectFields = new Map([[1, { name: "type", jsonName: "@type", holds: "text" }]]);
const anyValue = 2;

function readAny(bytes: Uint8Array, path: string, found: CallObject): void {
  const { type = "" }: CallObject = readAll(bytes, anyType);
  const known = transferNames.get(typeNameOf(type));
  if (known !== undefined) {
    const [number, jsonName] = known;
    const name = { name: "name", jsonName, holds: "text" } as const;
    const value = { name: "value", jsonName: "value", holds: new Map([[number, name]]) };
    note(found, path, readAll(bytes, new Map([[anyValue, value]]))["value.name"]);
  }
}

function readAll(bytes: Uint8Array, fields: ObjectFields): CallObject {
  const found: CallObject = {};
  readMessage(bytes, fields, "", found);
  return found;
}

function readJson(value: unknown, fields: ObjectFields, path: string, found: CallObject): void {
  if (typeof value !== "object" || value === null) {
    return;
  }
  const members = value as Record<string, unknown>;
  for (const { name, jsonName, holds } of fields.values()) {
    const member = members[jsonName] ?? members[name];
    if (holds === "text") {
      note(found, path + name, member);
    } else if (holds === "any") {
      const { "@type": type, ...rest } = (member ?? {}) as Record<string, unknown>;
      const [, key = ""] = transferNames.get(typeNameOf(String(type))) ?? [];
      note(found, path + name, rest[key]);
    } else {
      readJson(member, holds, `${path}${name}.`, found);
    }
  }
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined;
  }
}

function typeNameOf(url: string): string {
  return url.slice(url.lastIndexOf("/") + 1);
}

function note(found: CallObject, path: string, name: unknown): void {
  if (typeof name === "string" && name !== "") {
    found[path] = name.slice(0, nameLengthMax);
  }
}
