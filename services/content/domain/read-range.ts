import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import type { Digest } from "#containerd/digest.ts";
import { readChunkBytesMax } from "./limits.ts";
import type { BlobFiles, BlobReader } from "./ports.ts";

/** A part of a blob. */
export interface ReadRange {
  readonly startBytes: bigint;
  readonly lengthBytes: bigint;
}

/**
 * The part of a blob that a request asks for. A negative offset means the start; a size that is not positive or goes
 * beyond the end means all that is left.
 *
 * @throws {@link FlotillaError} `out_of_range` when the offset lies behind the end. At the end there is nothing to read.
 * @source containerd v2.3.4 plugins/services/content/contentserver/contentserver.go `(*service).Read`
 */
export function rangeOf(
  request: { readonly offset: bigint; readonly size: bigint },
  blob: { readonly sizeBytes: bigint },
): ReadRange {
  const startBytes = request.offset < 0n ? 0n : request.offset;
  if (startBytes > blob.sizeBytes) {
    throw new FlotillaError(ErrorKind.OutOfRange, `read past object length ${blob.sizeBytes} bytes`);
  }
  const leftBytes = blob.sizeBytes - startBytes;
  return { startBytes, lengthBytes: request.size <= 0n || request.size > leftBytes ? leftBytes : request.size };
}

/** Parts up to this size are read at once, as {@link BlobFiles.readAtOnce} says. */
const readAtOnceBytesMax = 64n * 1024n;

/**
 * Reads a small part of a blob without a wait.
 *
 * @returns undefined for a part that is not small or has no bytes, and while the disk is behind.
 * @throws {@link FlotillaError} `data_loss` when the file is shorter than its record says; what reading fails with.
 */
export function readSmallPart(
  blobs: BlobFiles,
  digest: Digest,
  { startBytes, lengthBytes }: ReadRange,
): ReadChunk | undefined {
  if (lengthBytes === 0n || lengthBytes > readAtOnceBytesMax) {
    return undefined;
  }
  const data = Buffer.allocUnsafe(Number(lengthBytes));
  const found = blobs.readAtOnce(digest, data, startBytes);
  if (found !== undefined && found < data.length) {
    throw endsEarly(startBytes, found, data.length);
  }
  return found === undefined ? undefined : { offset: 0n, data };
}

/** A piece of a blob on its way to a client. */
export interface ReadChunk {
  /** Counted from the start of this read, not of the blob. */
  readonly offset: bigint;
  readonly data: Uint8Array;
}

/**
 * Reads a part of a blob in chunks of up to 1 MiB, one chunk ahead of the consumer, and closes the reader at the end.
 *
 * Two buffers take turns: the data of a chunk is valid until the chunk after it is asked for.
 *
 * @throws {@link FlotillaError} `data_loss` when the file is shorter than its record says.
 */
export async function* readChunks(reader: BlobReader, range: ReadRange): AsyncGenerator<ReadChunk, void, undefined> {
  const bufferBytes = Number(range.lengthBytes < readChunkBytesMax ? range.lengthBytes : BigInt(readChunkBytesMax));
  const read = (buffer: Uint8Array, offset: bigint): Promise<Uint8Array> => {
    const leftBytes = range.lengthBytes - offset;
    const wanted = leftBytes < bufferBytes ? buffer.subarray(0, Number(leftBytes)) : buffer;
    return readFully(reader, wanted, range.startBytes + offset);
  };
  let current = Buffer.allocUnsafeSlow(bufferBytes);
  let other = range.lengthBytes > bufferBytes ? Buffer.allocUnsafeSlow(bufferBytes) : current;
  let pending: Promise<Uint8Array> | undefined;
  try {
    pending = range.lengthBytes > 0n ? read(current, 0n) : undefined;
    for (let offset = 0n; pending !== undefined; ) {
      const data = await pending;
      const next = offset + BigInt(data.length);
      [current, other] = [other, current];
      pending = next < range.lengthBytes ? read(current, next) : undefined;
      yield { offset, data };
      offset = next;
    }
  } finally {
    await pending?.catch(() => undefined);
    // Nobody waits for it: nothing of what was read can get lost.
    void reader.close().catch(() => undefined);
  }
}

async function readFully(reader: BlobReader, wanted: Uint8Array, positionBytes: bigint): Promise<Uint8Array> {
  const found = await reader.read(wanted, positionBytes);
  if (found < wanted.length) {
    throw endsEarly(positionBytes, found, wanted.length);
  }
  return wanted;
}

function endsEarly(positionBytes: bigint, found: number, wanted: number): FlotillaError {
  return failure(
    ErrorKind.DataLoss,
    `blob ends at ${positionBytes + BigInt(found)} bytes, before ${positionBytes + BigInt(wanted)}`,
  );
}
