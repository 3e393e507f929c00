import { type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { formatRfc3339 } from "#base/times.ts";

/** Writes a value as JSON; undefined for one that it can't, or must not. */
type Write = (value: unknown) => string | undefined;

/** How a field is written: its name and colon, where its value is, and when it is left out. */
interface FieldPlan {
  readonly name: string;
  readonly localName: string;
  readonly isUnset: (value: unknown) => boolean;
  readonly write: Write;
}

/** By schema; undefined for those that have something that is seldom and left to the library. */
const plans = new Map<DescMessage, readonly FieldPlan[] | undefined>();

/**
 * Writes a message as JSON, as protobuf's mapping says, field by field. The library makes objects of everything first, which for an event
 * costs more than all the rest of its way into the stream.
 *
 * @returns undefined where the library has to do it: messages with fields other than what events mostly have, and times that JSON can't have.
 * @source protobuf.dev, "ProtoJSON Format"
 */
export function findJson(schema: DescMessage, message: Message): string | undefined {
  const plan = planOf(schema);
  return plan === undefined ? undefined : writeFields(plan, message);
}

function writeFields(plan: readonly FieldPlan[], message: Message): string | undefined {
  const values = message as unknown as Readonly<Record<string, unknown>>;
  let text = "";
  for (const { name, localName, isUnset, write } of plan) {
    const value = values[localName];
    if (isUnset(value)) {
      continue;
    }
    const written = write(value);
    if (written === undefined) {
      return undefined;
    }
    text += text === "" ? name + written : `,${name}${written}`;
  }
  return `{${text}}`;
}

function planOf(schema: DescMessage): readonly FieldPlan[] | undefined {
  if (!plans.has(schema)) {
    // A message that holds itself is left to the library.
    plans.set(schema, undefined);
    const fields = schema.fields.toSorted((left, right) => left.number - right.number).map(planField);
    const known = fields.filter((field) => field !== undefined);
    plans.set(schema, known.length === fields.length && !schema.typeName.startsWith(wellKnown) ? known : undefined);
  }
  return plans.get(schema);
}

/** Messages that have a form of their own in JSON. */
const wellKnown = "google.protobuf.";

function planField(field: DescField): FieldPlan | undefined {
  const write = writerOf(field);
  const isPlain = field.oneof === undefined && field.presence !== FeatureSet_FieldPresence.EXPLICIT;
  const isMessage = field.fieldKind === "message" && field.oneof === undefined;
  return write !== undefined && (isPlain || isMessage)
    ? { name: `${JSON.stringify(field.jsonName)}:`, localName: field.localName, isUnset: isUnsetOf(field), write }
    : undefined;
}

function isUnsetOf({ fieldKind }: DescField): FieldPlan["isUnset"] {
  switch (fieldKind) {
    case "list":
      return (value) => (value as readonly unknown[]).length === 0;
    case "map":
      return (value) => Object.keys(value as object).length === 0;
    case "message":
      return (value) => value === undefined;
    default:
      return (value) => !value || (value instanceof Uint8Array && value.byteLength === 0);
  }
}

function writerOf(field: DescField): Write | undefined {
  switch (field.fieldKind) {
    case "scalar":
      return scalarWriter(field.scalar);
    case "message":
      return messageWriter(field.message);
    case "list":
      return listWriter(field.listKind === "scalar" ? scalarWriter(field.scalar) : messageWriter(field.message));
    case "map":
      // Such as labels.
      return field.mapKey === ScalarType.STRING && field.scalar === ScalarType.STRING ? JSON.stringify : undefined;
    default:
      return undefined;
  }
}

function listWriter(write: Write | undefined): Write | undefined {
  return (
    write &&
    ((value) => {
      const written = (value as readonly unknown[]).map(write);
      return written.includes(undefined) ? undefined : `[${written.join(",")}]`;
    })
  );
}

function messageWriter(schema: DescMessage | undefined): Write | undefined {
  if (schema?.typeName === TimestampSchema.typeName) {
    return writeTime;
  }
  const plan = schema === undefined ? undefined : planOf(schema);
  return plan && ((value) => writeFields(plan, value as Message));
}

function scalarWriter(scalar: ScalarType | undefined): Write | undefined {
  switch (scalar) {
    case ScalarType.STRING:
      return JSON.stringify;
    case ScalarType.BOOL:
    case ScalarType.INT32:
    case ScalarType.UINT32:
      return String;
    case ScalarType.INT64:
    case ScalarType.UINT64:
      return (value) => `"${String(value)}"`;
    default:
      return undefined;
  }
}

/** Seconds of the years 1 to 9999. @source protobuf.dev, google/protobuf/timestamp.proto */
const secondsMin = -62_135_596_800n;
const secondsMax = 253_402_300_799n;
const nanosMax = 999_999_999;

function writeTime(value: unknown): string | undefined {
  const { seconds, nanos } = value as { readonly seconds: bigint; readonly nanos: number };
  const isTime = seconds >= secondsMin && seconds <= secondsMax && nanos >= 0 && nanos <= nanosMax;
  // Fractions have 3, 6 or 9 digits, of which only the last case is that of a clock that counts nanoseconds.
  return isTime && (nanos === 0 || nanos % 10 !== 0) ? `"${formatRfc3339({ seconds, nanos })}"` : undefined;
}
