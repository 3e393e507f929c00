import { type DescMessage, fromBinary, ScalarType } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import type { FieldSource } from "#containerd/filter.ts";
import type { Envelope } from "#gen/containerd/types/event_pb.ts";
import { typeRegistry } from "#wire/connect/type-registry.ts";

/**
 * The fields of an event that filters may ask for: `namespace`, `topic`, and `event.` with the proto names of the payload's fields of
 * type string, bool and message, and `labels` by key. Empty strings are absent. A payload of unknown type has no fields.
 *
 * @source containerd v2.3.4 core/events/events.go `(*Envelope).Field`, api/events/*_fieldpath.pb.go
 */
export function eventFields(envelope: Pick<Envelope, "namespace" | "topic" | "event">): FieldSource {
  return ([field, ...rest]) => {
    switch (field) {
      case "namespace":
        return nonEmptyText(envelope.namespace);
      case "topic":
        return nonEmptyText(envelope.topic);
      case "event":
        return envelope.event === undefined ? undefined : findInAny(envelope.event, rest);
      default:
        return undefined;
    }
  };
}

interface Decoded {
  readonly schema: DescMessage;
  readonly values: Readonly<Record<string, unknown>>;
}

/** Payloads that have been decoded, so that many subscribers share the work. */
const decodedPayloads = new WeakMap<Any, Decoded>();

function findInAny(any: Any, path: readonly string[]): string | undefined {
  const decoded = decodedPayloads.get(any) ?? decode(any);
  if (decoded === undefined) {
    return undefined;
  }
  decodedPayloads.set(any, decoded);
  return findInMessage(decoded, path);
}

function decode({ typeUrl, value }: Any): Decoded | undefined {
  const schema = typeRegistry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
  if (schema === undefined) {
    return undefined;
  }
  try {
    return { schema, values: valuesOf(fromBinary(schema, value)) };
  } catch {
    return undefined;
  }
}

function findInMessage({ schema, values }: Decoded, [name, ...rest]: readonly string[]): string | undefined {
  const field = schema.fields.find((candidate) => candidate.name === name);
  const value = field === undefined ? undefined : values[field.localName];
  if (field === undefined || value === undefined) {
    return undefined;
  }
  if (field.fieldKind === "scalar") {
    return field.scalar === ScalarType.BOOL ? `${value === true}` : nonEmptyText(value);
  }
  if (field.fieldKind === "map" && field.name === "labels") {
    const labels = valuesOf(value);
    const key = rest.join(".");
    const label = Object.hasOwn(labels, key) ? labels[key] : undefined;
    return typeof label === "string" ? label : undefined;
  }
  if (field.fieldKind === "message") {
    return field.message.typeName === AnySchema.typeName
      ? findInAny(value as Any, rest)
      : findInMessage({ schema: field.message, values: valuesOf(value) }, rest);
  }
  return undefined;
}

function nonEmptyText(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function valuesOf(message: unknown): Readonly<Record<string, unknown>> {
  return message as Readonly<Record<string, unknown>>;
}
