import { ErrorKind, failure } from "#base/errors.ts";

/**
 * Reads a whole body into memory.
 *
 * @param limits.excess - What happens to a body that is larger: it is cut at the limit, or refused. Either way the rest is
 *   not read.
 * @throws {@link FlotillaError} `not_found`, as containerd treats what is too large to be a manifest.
 */
export async function readBounded(
  body: AsyncIterable<Uint8Array>,
  { bytesMax, excess }: { readonly bytesMax: number; readonly excess: "cut" | "refuse" },
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let lengthBytes = 0;
  for await (const piece of body) {
    // The stream may use the piece's memory again.
    pieces.push(Buffer.from(piece));
    lengthBytes += piece.length;
    if (lengthBytes > bytesMax) {
      if (excess === "refuse") {
        throw failure(ErrorKind.NotFound, `rejecting an answer of more than ${bytesMax} bytes`);
      }
      break;
    }
  }
  return Buffer.concat(pieces, Math.min(lengthBytes, bytesMax));
}
