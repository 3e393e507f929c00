/** The few rules of gRPC over HTTP/2 that the thin paths need. @source grpc/grpc doc/PROTOCOL-HTTP2.md */

/** Size of what stands before each message: whether it is compressed, and its length. */
export const messagePrefixBytes = 5;

/** Puts the prefix (not compressed, length) before a message, given in one piece or in several. */
export function frameMessage(parts: Uint8Array | readonly Uint8Array[], sizeBytes?: number): Buffer {
  const pieces = parts instanceof Uint8Array ? [parts] : parts;
  const lengthBytes = sizeBytes ?? pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  const framed = Buffer.allocUnsafe(messagePrefixBytes + lengthBytes);
  writePrefix(framed, 0, lengthBytes);
  let at = messagePrefixBytes;
  for (const piece of pieces) {
    framed.set(piece, at);
    at += piece.byteLength;
  }
  return framed;
}

/**
 * Puts messages with their prefixes into one piece.
 *
 * @param sizeBytes - Of all of them, prefixes included.
 */
export function frameMessages(
  messages: readonly { readonly parts: readonly Uint8Array[]; readonly sizeBytes: number }[],
  sizeBytes: number,
): Buffer {
  const framed = Buffer.allocUnsafe(sizeBytes);
  let at = 0;
  for (const { parts, sizeBytes: lengthBytes } of messages) {
    writePrefix(framed, at, lengthBytes);
    at += messagePrefixBytes;
    for (const part of parts) {
      framed.set(part, at);
      at += part.byteLength;
    }
  }
  return framed;
}

/** Messages up to this size are sent in one piece with their prefix, which costs a copy; of larger ones the copy costs more. */
export const joinedBytesMax = 4096;

/** The prefix alone, for a message that is not worth a copy. */
export function messagePrefix(lengthBytes: number): Buffer {
  const prefix = Buffer.allocUnsafe(messagePrefixBytes);
  writePrefix(prefix, 0, lengthBytes);
  return prefix;
}

/** Writes the prefix of a message to where it belongs. */
export function writePrefix(target: Buffer, at: number, lengthBytes: number): void {
  target[at] = 0;
  target.writeUInt32BE(lengthBytes, at + 1);
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
