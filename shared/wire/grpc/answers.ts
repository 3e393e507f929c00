import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { CallFailure } from "../errors.ts";
import { BorrowedResponse, EncodedResponse } from "../handler.ts";
import { type HeaderBytes, wholeBuffer } from "../http2/data-flow.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import { encodeHeaderBlock } from "../http2/header-encoder.ts";
import { SpacedResponse } from "../spaced-block.ts";
import {
  encodeGrpcMessage,
  frameMessage,
  frameMessages,
  joinedBytesMax,
  messagePrefix,
  messagePrefixBytes,
} from "./grpc-wire.ts";

/** The fields that begin an answer of messages. */
export const answerHead: HeaderBytes = wholeBuffer(
  encodeHeaderBlock([
    [":status", "200"],
    ["content-type", "application/grpc"],
  ]),
);

/** The fields that end an answer that went well. */
export const okTrailers: HeaderBytes = wholeBuffer(encodeHeaderBlock([["grpc-status", "0"]]));

/** The fields that end an answer that failed. */
export function failureTrailers(error: CallFailure): HeaderBytes {
  return wholeBuffer(encodeHeaderBlock(failureFields(error)));
}

/** The whole answer to a call that failed before it answered anything. */
export function trailersOnly(error: CallFailure): HeaderBytes {
  return wholeBuffer(
    encodeHeaderBlock([[":status", "200"], ["content-type", "application/grpc"], ...failureFields(error)]),
  );
}

function failureFields(error: CallFailure): [name: string, value: string][] {
  return [
    ["grpc-status", String(error.code)],
    ["grpc-message", encodeGrpcMessage(error.message)],
  ];
}

/** Decodes a request message. @throws {@link FlotillaError} `internal`, as grpc-go answers. */
export function decodeRequest(method: DescMethod, message: Uint8Array): MessageShape<DescMessage> {
  try {
    return fromBinary(method.input, message);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Internal, `grpc: error unmarshalling request: ${String(error)}`, {
      cause: error,
    });
  }
}

/** An encoded message in pieces. */
export interface EncodedMessage {
  readonly parts: readonly Uint8Array[];
  readonly sizeBytes: number;
}

/**
 * Encodes a message of an answer.
 *
 * @throws {@link FlotillaError} `resource_exhausted` when it is larger than `bytesMax`.
 */
export function encodeAnswer(
  schema: DescMessage,
  message: MessageInitShape<DescMessage> | EncodedResponse,
  bytesMax: number,
): EncodedMessage {
  if (message instanceof EncodedResponse) {
    return requireSize(message, bytesMax);
  }
  if (schema.fields.length === 0) {
    return emptyMessage;
  }
  return requireSize(new EncodedResponse(toBinary(schema, create(schema, message))), bytesMax);
}

const emptyMessage = new EncodedResponse();

function requireSize(encoded: EncodedMessage, bytesMax: number): EncodedMessage {
  if (encoded.sizeBytes > bytesMax) {
    throw tooLarge("grpc: trying to send message larger than max", encoded.sizeBytes, bytesMax);
  }
  return encoded;
}

/** Sends a message: a small one in one piece with its prefix, a large one without copying it. */
export function sendMessage(stream: EndpointStream, message: EncodedMessage): void {
  const { parts, sizeBytes } = message;
  if (sizeBytes <= joinedBytesMax) {
    stream.write(frameMessage(parts, sizeBytes));
  } else if (message instanceof SpacedResponse) {
    stream.writeSpaced(message.pieces);
  } else if (message instanceof BorrowedResponse) {
    stream.writeBorrowed([messagePrefix(sizeBytes), ...parts.map(asBuffer)]);
  } else {
    stream.writeAll([messagePrefix(sizeBytes), ...parts.map(asBuffer)]);
  }
}

/** Messages that are sent in one piece together: more than one read of the other side makes a copy dearer than it saves. */
const joinedTogetherBytesMax = 64 * 1024;

/** Sends several messages, by one frame where they are small. */
export function sendMessages(stream: EndpointStream, messages: readonly EncodedMessage[]): void {
  let sizeBytes = 0;
  for (const message of messages) {
    sizeBytes += messagePrefixBytes + message.sizeBytes;
  }
  if (sizeBytes <= joinedTogetherBytesMax) {
    stream.write(frameMessages(messages, sizeBytes));
  } else {
    for (const message of messages) {
      sendMessage(stream, message);
    }
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The error for a message that is too large, in grpc-go's words. */
export function tooLarge(context: string, bytes: number, bytesMax: number): FlotillaError {
  return new FlotillaError(ErrorKind.ResourceExhausted, `${context} (${bytes} vs. ${bytesMax})`);
}

/** Why the calls of a client that went away are over. */
export function canceled(): FlotillaError {
  return new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled);
}
