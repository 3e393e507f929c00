import { clone, type DescMessage, fromBinary, type Message, type Registry, toBinary } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { type Any, AnySchema, BytesValueSchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { typeRegistry } from "./type-registry.ts";

/**
 * What is no message and still travels inside `google.protobuf.Any`: JSON of the OCI runtime, named by the last part of its type.
 *
 * @source containerd/typeurl v2 `Register`; containerd v2.3.4 client/client.go `init`
 */
const runtimeTypes: Readonly<Record<string, string>> = Object.fromEntries(
  ["Spec", "Process", "LinuxResources", "WindowsResources"].map((name) => [
    name,
    `types.containerd.io/opencontainers/runtime-spec/1/${name}`,
  ]),
);

const opaqueTypes = new Map<string, DescMessage>();

/**
 * The registry for JSON. A type that it does not know stands as `{"@type": …, "value": …}` with the bytes in base64, which protobuf's JSON has no
 * form for: {@link showOpaque} and {@link takeOpaque} do the rest.
 */
export const jsonRegistry: Registry = {
  kind: "registry",
  [Symbol.iterator]: () => typeRegistry[Symbol.iterator](),
  get: (name) => typeRegistry.get(name),
  getEnum: (name) => typeRegistry.getEnum(name),
  getExtension: (name) => typeRegistry.getExtension(name),
  getExtensionFor: (extended, number) => typeRegistry.getExtensionFor(extended, number),
  getService: (name) => typeRegistry.getService(name),
  getMessage: (name) => typeRegistry.getMessage(name) ?? opaqueType(name),
};

/** A message with one field, `value`, under the name of another. Kept only while there are few names, since clients choose them. */
function opaqueType(typeName: string): DescMessage {
  const known = opaqueTypes.get(typeName);
  if (known !== undefined) {
    return known;
  }
  const made: DescMessage = { ...BytesValueSchema, typeName };
  if (opaqueTypes.size < opaqueTypesMax) {
    opaqueTypes.set(typeName, made);
  }
  return made;
}

const opaqueTypesMax = 100;

/** A copy of an answer that can be written as JSON. */
export function showOpaque<T extends Message>(schema: DescMessage, answer: T): T {
  const copy = clone(schema, answer);
  forEachAny(reflect(schema, copy), (any) => {
    if (any.typeUrl !== "" && !isKnown(any)) {
      const value = new Uint8Array(any.value);
      any.value = toBinary(BytesValueSchema, { $typeName: "google.protobuf.BytesValue", value });
    }
  });
  return copy as T;
}

/**
 * Gives values that were read from JSON their bytes and their types back.
 *
 * @throws {@link FlotillaError} `invalid_argument` for a type that is neither a message nor one of the OCI runtime.
 */
export function takeOpaque(schema: DescMessage, request: Message): void {
  forEachAny(reflect(schema, request), (any) => {
    if (any.typeUrl === "" || isKnown(any)) {
      return;
    }
    const typeUrl = runtimeTypes[nameOf(any)];
    if (typeUrl === undefined) {
      throw failure(ErrorKind.InvalidArgument, `type ${quote(nameOf(any))} is not known`);
    }
    any.value = fromBinary(BytesValueSchema, any.value).value;
    any.typeUrl = typeUrl;
  });
}

function isKnown(any: Any): boolean {
  return typeRegistry.getMessage(nameOf(any)) !== undefined;
}

function nameOf({ typeUrl }: Any): string {
  return typeUrl.slice(typeUrl.lastIndexOf("/") + 1);
}

function forEachAny(message: ReflectMessage, visit: (any: Any) => void): void {
  if (message.desc.typeName === AnySchema.typeName) {
    visit(message.message as Any);
    return;
  }
  for (const field of message.fields) {
    if (!message.isSet(field)) {
      continue;
    }
    if (field.fieldKind === "message") {
      forEachAny(message.get(field), visit);
    } else if (field.fieldKind === "list" && field.listKind === "message") {
      for (const element of message.get(field)) {
        forEachAny(element as ReflectMessage, visit);
      }
    } else if (field.fieldKind === "map" && field.mapKind === "message") {
      for (const [, element] of message.get(field)) {
        forEachAny(element as ReflectMessage, visit);
      }
    }
  }
}
