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
): ReadPart | undefined {
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

/** A part of a blob that was read at once. */
export interface ReadPart {
  readonly offset: bigint;
  readonly data: Uint8Array;
}

/** Memory that chunks are read into, again and again. */
export interface ChunkMemory {
  /** Where so many bytes go, in their order. */
  views(lengthBytes: number): readonly Uint8Array[];
}

/** A piece of a blob on its way to a client. */
export interface ReadChunk<M extends ChunkMemory> {
  /** Counted from the start of this read, not of the blob. */
  readonly offset: bigint;
  readonly lengthBytes: number;
  /** Where its bytes are. */
  readonly memory: M;
}

/**
 * Reads a part of a blob in chunks of up to 1 MiB, one chunk ahead of the consumer, and closes the reader at the end.
 *
 * Two memories take turns: what is in that of a chunk is valid until the chunk after it is asked for.
 *
 * @param makeMemory - Makes memory for chunks of so many bytes.
 * @throws {@link FlotillaError} `data_loss` when the file is shorter than its record says.
 */
export async function* readChunks<M extends ChunkMemory>(
  reader: BlobReader,
  range: ReadRange,
  makeMemory: (bytesMax: number) => M,
): AsyncGenerator<ReadChunk<M>, void, undefined> {
  const bytesMax = Number(range.lengthBytes < readChunkBytesMax ? range.lengthBytes : BigInt(readChunkBytesMax));
  const read = async (memory: M, offset: bigint): Promise<ReadChunk<M>> => {
    const leftBytes = range.lengthBytes - offset;
    const lengthBytes = leftBytes < bytesMax ? Number(leftBytes) : bytesMax;
    const found = await reader.read(memory.views(lengthBytes), range.startBytes + offset);
    if (found < lengthBytes) {
      throw endsEarly(range.startBytes + offset, found, lengthBytes);
    }
    return { offset, lengthBytes, memory };
  };
  let current = makeMemory(bytesMax);
  let other = range.lengthBytes > bytesMax ? makeMemory(bytesMax) : current;
  let pending: Promise<ReadChunk<M>> | undefined;
  try {
    pending = range.lengthBytes > 0n ? read(current, 0n) : undefined;
    while (pending !== undefined) {
      const chunk: ReadChunk<M> = await pending;
      const next = chunk.offset + BigInt(chunk.lengthBytes);
      [current, other] = [other, current];
      pending = next < range.lengthBytes ? read(current, next) : undefined;
      yield chunk;
    }
  } finally {
    await pending?.catch(() => undefined);
    // Nobody waits for it: nothing of what was read can get lost.
    void reader.close().catch(() => undefined);
  }
}

/** Memory in one piece. */
export function plainMemory(bytesMax: number): ChunkMemory {
  const memory = Buffer.allocUnsafeSlow(bytesMax);
  return { views: (lengthBytes) => [memory.subarray(0, lengthBytes)] };
}

function endsEarly(positionBytes: bigint, found: number, wanted: number): FlotillaError {
  return failure(
    ErrorKind.DataLoss,
    `blob ends at ${positionBytes + BigInt(found)} bytes, before ${positionBytes + BigInt(wanted)}`,
  );
}
