/** The few rules of gRPC over HTTP/2 that the thin paths need. @source grpc/grpc doc/PROTOCOL-HTTP2.md */

/** Size of what stands before each message: whether it is compressed, and its length. */
export const messagePrefixBytes = 5;

/** Puts the prefix (not compressed, length) before a message. */
export function frameMessage(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(messagePrefixBytes + message.byteLength);
  writePrefix(framed, message.byteLength);
  framed.set(message, messagePrefixBytes);
  return framed;
}

/** Messages up to this size are sent in one piece with their prefix, which costs a copy; of larger ones the copy costs more. */
export const joinedBytesMax = 4096;

/** The prefix alone, for a message that is not worth a copy. */
export function messagePrefix(lengthBytes: number): Buffer {
  const prefix = Buffer.allocUnsafe(messagePrefixBytes);
  writePrefix(prefix, lengthBytes);
  return prefix;
}

function writePrefix(target: Buffer, lengthBytes: number): void {
  target[0] = 0;
  target.writeUInt32BE(lengthBytes, 1);
}

export type UnframedMessage =
  | { readonly message: Uint8Array }
  | { readonly fault: "compressed" | "truncated" | "surplus" };

/** Takes the one message of a unary body out of its frame. */
export function unframeMessage(body: Buffer): UnframedMessage {
  if (body.length < messagePrefixBytes) {
    return { fault: "truncated" };
  }
  if (body[0] !== 0) {
    return { fault: "compressed" };
  }
  const lengthBytes = body.readUInt32BE(1);
  if (body.length < messagePrefixBytes + lengthBytes) {
    return { fault: "truncated" };
  }
  if (body.length > messagePrefixBytes + lengthBytes) {
    return { fault: "surplus" };
  }
  return { message: body.subarray(messagePrefixBytes) };
}

/** The length that the prefix of an incomplete body announces, or undefined before the prefix is there. */
export function announcedBytes(body: Buffer): number | undefined {
  return body.length < messagePrefixBytes ? undefined : body.readUInt32BE(1);
}

/** Encodes `grpc-message`: everything but printable ASCII, and `%`, is percent-encoded as UTF-8. */
export function encodeGrpcMessage(text: string): string {
  return /^[ -$&-~]*$/.test(text)
    ? text
    : Array.from(Buffer.from(text, "utf8"), (byte) =>
        byte >= 0x20 && byte <= 0x7e && byte !== 0x25
          ? String.fromCharCode(byte)
          : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`,
      ).join("");
}

/** The way back from {@link encodeGrpcMessage}; text that is not well encoded is returned as it is. */
export function decodeGrpcMessage(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const unitMs: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** Milliseconds of a `grpc-timeout` header, or undefined when there is none or it makes no sense. */
export function parseGrpcTimeout(header: string | undefined): number | undefined {
  const match = header === undefined ? null : /^(\d{1,8})([HMSmun])$/.exec(header);
  const perUnit = unitMs[match?.[2] ?? ""];
  return match === null || perUnit === undefined ? undefined : Number(match[1]) * perUnit;
}
