import { fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import type { Any, Timestamp } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { findRfc3339Ns, formatRfc3339 } from "#base/times.ts";
import { type Envelope, EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { typeRegistry } from "#wire/connect/type-registry.ts";
import { eventBytesMax, type NewEvent, StoredEvent } from "./bus.ts";
import type { Question, Reply } from "./link.ts";
import { findJson } from "./payload-json.ts";

/** Who published: tells the events of this daemon from those of others in the same store. */
export interface Publisher {
  /** Name of the stream, which is also the first part of every subject. */
  readonly stream: string;
  /** A URI reference that is the daemon's for ever. */
  readonly source: string;
  /** Name of the machine. */
  readonly host: string;
}

/** A message that carries an event. */
export interface EventMessage extends Question {
  /** The envelope of the event. */
  readonly encoded: Uint8Array;
}

/** Holds the encoded envelope, base64, or {@link inBody}. A body of JSON is for people, this is for {@link readMessage}. */
const envelopeHeader = "flotilla-envelope";
/** Says that the body is the encoded envelope. */
const inBody = "body";
/** Largest envelope in a header. @source nats-server v2.9.10 server/stream.go `processJetStreamMsg`: headers have less than 64 KiB */
const headerEnvelopeBytesMax = 32 * 1024;
/** Longest of the headers that only describe; what is longer is cut. */
const headerTextMax = 1024;
const sourceHeader = "ce-source";
/** Longest subject; topics beyond are cut and end in {@link cutMark}. Decision: nats-server reads 4096 bytes of a line. */
const subjectBytesMax = 1024;
const cutMark = "~";

/** What messages of the same kind have in common. */
interface Kind {
  readonly namespace: string;
  readonly topic: string;
  readonly type: string;
  readonly subject: string;
  readonly headers: string;
}

/** How many kinds are remembered: more than there are topics, in some namespaces. */
const kindsMax = 1024;
const rememberedTextMax = 1024;

/** Makes the messages that carry events. */
export class MessageMaker {
  readonly #publisher: Publisher;
  readonly #kinds = new Map<string, Kind>();
  /** That of the last message, since events of a kind come one after the other. */
  #last: Kind | undefined;

  constructor(publisher: Publisher) {
    this.#publisher = publisher;
  }

  /**
   * Makes the message that carries an event: a CloudEvent in binary mode whose body is the payload as JSON, so that
   * `nats sub 'containerd.>'` can be read, with the envelope as it was published in a header. An envelope that is too large for a
   * header is the body itself.
   *
   * @throws {@link FlotillaError} `resource_exhausted` when the event is larger than {@link eventBytesMax}.
   * @source CloudEvents 1.0.2, NATS protocol binding, section 3.2 "Binary content mode"
   */
  make({ messageId, envelope, encoded: given }: NewEvent): EventMessage {
    const encoded = given ?? toBinary(EnvelopeSchema, envelope);
    if (encoded.byteLength > eventBytesMax) {
      throw failure(
        ErrorKind.ResourceExhausted,
        `event ${envelope.topic} has ${encoded.byteLength} bytes, more than ${eventBytesMax}`,
      );
    }
    const isLarge = encoded.byteLength > headerEnvelopeBytesMax;
    const { subject, headers } = this.#kindOf(envelope);
    return {
      subject,
      headers:
        headerLine("Nats-Msg-Id", messageId) +
        headerLine("ce-id", messageId) +
        headers +
        (envelope.timestamp === undefined ? "" : headerLine("ce-time", timeText(envelope.timestamp))) +
        headerLine("content-type", isLarge ? "application/protobuf" : "application/json") +
        headerLine(envelopeHeader, isLarge ? inBody : base64Of(encoded)),
      body: isLarge ? encoded : bodyOf(envelope.event),
      encoded,
    };
  }

  /** What depends on namespace, topic and type alone is mostly made once for each of them. */
  #kindOf({ namespace, topic, event }: Envelope): Kind {
    const type = event?.typeUrl ?? "";
    const last = this.#last;
    if (last?.topic === topic && last.type === type && last.namespace === namespace) {
      return last;
    }
    const key = `${namespace.length} ${topic.length} ${namespace}${topic}${type}`;
    const kind = this.#kinds.get(key) ?? this.#makeKind(key, { namespace, topic, type });
    this.#last = kind;
    return kind;
  }

  #makeKind(key: string, { namespace, topic, type }: Pick<Kind, "namespace" | "topic" | "type">): Kind {
    const { stream, source, host } = this.#publisher;
    const kind = {
      namespace,
      topic,
      type,
      subject: subjectOf(stream, { namespace, topic }),
      headers:
        headerLine("ce-specversion", "1.0") +
        headerLine(sourceHeader, source) +
        headerLine("ce-type", headerText(type)) +
        headerLine("ce-subject", headerText(topic)) +
        headerLine("ce-namespace", headerText(namespace)) +
        headerLine("ce-host", headerText(host)),
    };
    if (this.#kinds.size >= kindsMax) {
      this.#kinds.clear();
    }
    if (key.length <= rememberedTextMax) {
      this.#kinds.set(key, kind);
    }
    return kind;
  }
}

/** A line of {@link Question.headers}. */
export function headerLine(name: string, value: string): string {
  return `${name}: ${value}\r\n`;
}

/**
 * Takes an event out of a stored message.
 *
 * @returns undefined for a message that this daemon did not publish.
 */
export function readMessage(reply: Reply, source: string): StoredEvent | undefined {
  const encoded = reply.header(envelopeHeader);
  if (encoded === undefined || reply.header(sourceHeader) !== source) {
    return undefined;
  }
  const bytes = encoded === inBody ? reply.body : Buffer.from(encoded, "base64");
  return new StoredEvent(sequenceOf(reply), bytes, fromBinary(EnvelopeSchema, bytes));
}

/** Sequence of a stored message that was asked for. @source NATS ADR-31 "JetStream Direct Get" */
export function sequenceOf(reply: Reply): number {
  return Number(reply.header("Nats-Sequence") ?? 0);
}

/** When a stored message that was asked for was stored, in nanoseconds since the epoch. @source NATS ADR-31 "JetStream Direct Get" */
export function storedAtNs(reply: Reply): bigint {
  return findRfc3339Ns(reply.header("Nats-Time-Stamp") ?? "") ?? 0n;
}

/** Name under which a stored message was published. */
export function messageIdOf(reply: Reply): string {
  return reply.header("Nats-Msg-Id") ?? "";
}

/**
 * The subject of an event: stream, namespace and the parts of the topic, with dots between them. Since namespaces and parts may hold
 * dots themselves (`k8s.io`), a dot within one becomes a colon, which no identifier holds.
 */
export function subjectOf(stream: string, { namespace, topic }: Pick<Envelope, "namespace" | "topic">): string {
  const tokens = [stream, namespace, ...topic.replace(/^\//, "").split("/")].map(subjectToken);
  const subject = tokens.join(".");
  if (subject.length <= subjectBytesMax) {
    return subject;
  }
  let length = 0;
  const kept = tokens.filter((token) => {
    length += token.length + 1;
    return length + cutMark.length <= subjectBytesMax;
  });
  return [...kept, cutMark].join(".");
}

function subjectToken(text: string): string {
  if (/^[\w-]+$/.test(text)) {
    return text;
  }
  const token = text
    .replaceAll(".", ":")
    .replace(/[^\w:-]/g, (character) => `=${character.codePointAt(0)?.toString(16)}`);
  return token === "" ? "=" : token;
}

function headerText(text: string): string {
  return (/^[!-~]*$/.test(text) ? text : encodeURIComponent(text.toWellFormed())).slice(0, headerTextMax);
}

/** The payload as JSON, or its type and bytes when nobody here knows the type. */
function bodyOf(payload: Any | undefined): Uint8Array {
  return Buffer.from(payload === undefined ? "{}" : payloadJson(payload));
}

function payloadJson({ typeUrl, value }: Any): string {
  const schema = typeRegistry.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1));
  if (schema === undefined) {
    return asBytes(typeUrl, value);
  }
  try {
    const message = fromBinary(schema, value);
    return findJson(schema, message) ?? JSON.stringify(toJson(schema, message, { registry: typeRegistry }));
  } catch {
    return asBytes(typeUrl, value);
  }
}

function asBytes(typeUrl: string, value: Uint8Array): string {
  return JSON.stringify({ "@type": typeUrl, value: base64Of(value) });
}

function base64Of({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}

/** The last second, either way from 1970, that JavaScript's dates know. @source ECMA-262 "Time Values and Time Range" */
const dateSecondsMax = 8_640_000_000_000n;

/** Writes the time of an envelope, which may be any number of seconds. */
function timeText(time: Timestamp): string {
  const isDate = time.seconds <= dateSecondsMax && time.seconds >= -dateSecondsMax;
  return isDate ? formatRfc3339(time) : `${time.seconds}.${time.nanos}`;
}
