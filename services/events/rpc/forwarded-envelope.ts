import { create, toBinary } from "@bufbuild/protobuf";
import type { Any, Timestamp } from "@bufbuild/protobuf/wkt";
import { Events, type ForwardRequest } from "#gen/containerd/services/events/v1/events_pb.ts";
import { type Envelope, EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { decodeRequest } from "#wire/grpc/answers.ts";
import { PlainFields } from "./plain-fields.ts";

/** An envelope, and the bytes in which it came. */
export interface ReceivedEnvelope {
  readonly envelope: Envelope;
  readonly encoded: Uint8Array;
}

/** Tags of fields: number and wire type. @see proto/containerd/types/event.proto */
const RequestTag = { Envelope: 0x0a } as const;
const EnvelopeTag = { Timestamp: 0x0a, Namespace: 0x12, Topic: 0x1a, Event: 0x22 } as const;
const TimestampTag = { Seconds: 0x08, Nanos: 0x10 } as const;
const nanosMax = 999_999_999;
const emptyBytes: Uint8Array<ArrayBuffer> = new Uint8Array();
const AnyTag = { TypeUrl: 0x0a, Value: 0x12 } as const;

/**
 * Takes the envelope out of an encoded `ForwardRequest`, so that subscribers get the bytes that the client has sent, and nothing is made
 * of what nobody looks at.
 *
 * @param request - Is copied.
 * @throws {@link FlotillaError} `internal` when it is no such message.
 */
export function readForwarded(request: Uint8Array): ReceivedEnvelope {
  const own = Buffer.from(request);
  return readPlain(own) ?? readGenerally(own);
}

/** What is not as usual is read, and written anew, by the library. */
function readGenerally(request: Buffer): ReceivedEnvelope {
  const { envelope = create(EnvelopeSchema) } = decodeRequest(Events.method.forward, request) as ForwardRequest;
  return { envelope, encoded: toBinary(EnvelopeSchema, envelope) };
}

function readPlain(request: Buffer<ArrayBuffer>): ReceivedEnvelope | undefined {
  const fields = new PlainFields(request, 0, request.length);
  if (fields.next() !== RequestTag.Envelope || !fields.find() || !fields.isAtEnd) {
    return undefined;
  }
  const { start, end } = fields;
  const envelope = readEnvelope(request, start, end);
  return envelope === undefined ? undefined : { envelope, encoded: request.subarray(start, end) };
}

function readEnvelope(bytes: Buffer<ArrayBuffer>, start: number, end: number): Envelope | undefined {
  const fields = new PlainFields(bytes, start, end);
  let timestamp: Timestamp | undefined;
  let namespace: string | undefined = "";
  let topic: string | undefined = "";
  let event: Any | undefined;
  for (let tag = fields.next(); tag !== 0; tag = fields.next()) {
    if (tag === EnvelopeTag.Timestamp) {
      timestamp = fields.find() ? readTimestamp(bytes, fields.start, fields.end) : undefined;
    } else if (tag === EnvelopeTag.Namespace) {
      namespace = fields.text();
    } else if (tag === EnvelopeTag.Topic) {
      topic = fields.text();
    } else if (tag === EnvelopeTag.Event) {
      event = fields.find() ? readPayload(bytes, fields.start, fields.end) : undefined;
    } else {
      return undefined;
    }
  }
  const isWhole = fields.isAtEnd && timestamp !== undefined && event !== undefined;
  return isWhole && namespace !== undefined && topic !== undefined
    ? { $typeName: "containerd.types.Envelope", timestamp, namespace, topic, event }
    : undefined;
}

function readTimestamp(bytes: Buffer<ArrayBuffer>, start: number, end: number): Timestamp | undefined {
  const fields = new PlainFields(bytes, start, end);
  let seconds: number | undefined = 0;
  let nanos: number | undefined = 0;
  for (let tag = fields.next(); tag !== 0; tag = fields.next()) {
    if (tag === TimestampTag.Seconds) {
      seconds = fields.integer();
    } else if (tag === TimestampTag.Nanos) {
      nanos = fields.integer();
    } else {
      return undefined;
    }
  }
  if (!fields.isAtEnd || seconds === undefined || nanos === undefined || nanos > nanosMax) {
    return undefined;
  }
  return { $typeName: "google.protobuf.Timestamp", seconds: BigInt(seconds), nanos };
}

function readPayload(bytes: Buffer<ArrayBuffer>, start: number, end: number): Any | undefined {
  const fields = new PlainFields(bytes, start, end);
  let typeUrl: string | undefined = "";
  let value = emptyBytes;
  for (let tag = fields.next(); tag !== 0; tag = fields.next()) {
    if (tag === AnyTag.TypeUrl) {
      typeUrl = fields.text();
    } else if (tag === AnyTag.Value && fields.find()) {
      value = bytes.subarray(fields.start, fields.end);
    } else {
      return undefined;
    }
  }
  return fields.isAtEnd && typeUrl !== undefined ? { $typeName: "google.protobuf.Any", typeUrl, value } : undefined;
}
