import { createHash } from "node:crypto";
import { createGzip, createZstdCompress, type Gzip, type ZstdCompress } from "node:zlib";
import type { FileTime } from "#linux/inode.ts";
import { type ComparedTrees, compareTrees } from "./compare.ts";
import { type Compression, writeTo } from "./compression.ts";
import { LayerWriter } from "./layer-writer.ts";

/** Two trees of which the difference is wanted as a layer. Made of plain data, so that it can go to another thread. */
export interface CompareJob {
  readonly trees: ComparedTrees;
  readonly compression: Compression;
  /** Times of modification after this one are written as this one. */
  readonly latest: FileTime | undefined;
}

/** The layer that was written. */
export interface WrittenLayer {
  /** Of the uncompressed layer. */
  readonly uncompressedDigest: string;
}

/** Size of the pieces that come out. */
const pieceBytes = 256 * 1024;

/**
 * Writes the difference between two trees as a layer, compressed if wanted.
 *
 * @returns After the last piece: what it was. Pieces belong to the caller.
 * @source containerd v2.3.4 plugins/diff/walking/differ.go `Compare`
 */
export async function* streamLayer(job: CompareJob, signal: AbortSignal): AsyncGenerator<Buffer, WrittenLayer> {
  const hash = createHash("sha256");
  const writer = new LayerWriter(job.trees.upper, job.latest);
  const pieces = hashPieces(gatherPieces(writer.write(compareTrees(job.trees))), hash, signal);
  if (job.compression === "none") {
    yield* pieces;
  } else {
    yield* compress(pieces, job.compression);
  }
  return { uncompressedDigest: `sha256:${hash.digest("hex")}` };
}

/** Joins small pieces and copies what is only borrowed. */
function* gatherPieces(pieces: Iterable<Buffer>): Generator<Buffer> {
  let gathered = Buffer.allocUnsafeSlow(pieceBytes);
  let filled = 0;
  for (const piece of pieces) {
    for (let offset = 0; offset < piece.length; ) {
      const copied = piece.copy(gathered, filled, offset);
      offset += copied;
      filled += copied;
      if (filled === pieceBytes) {
        yield gathered;
        gathered = Buffer.allocUnsafeSlow(pieceBytes);
        filled = 0;
      }
    }
  }
  yield gathered.subarray(0, filled);
}

function* hashPieces(
  pieces: Iterable<Buffer>,
  hash: ReturnType<typeof createHash>,
  signal: AbortSignal,
): Generator<Buffer> {
  for (const piece of pieces) {
    signal.throwIfAborted();
    hash.update(piece);
    yield piece;
  }
}

async function* compress(pieces: Iterable<Buffer>, compression: "gzip" | "zstd"): AsyncGenerator<Buffer> {
  const options = { chunkSize: pieceBytes };
  const encoder: Gzip | ZstdCompress = compression === "gzip" ? createGzip(options) : createZstdCompress(options);
  const feed = async (): Promise<void> => {
    try {
      for (const piece of pieces) {
        await writeTo(encoder, piece);
        if (encoder.destroyed) {
          return;
        }
      }
      encoder.end();
    } catch (error) {
      encoder.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  };
  const fed = feed();
  try {
    for await (const piece of encoder) {
      yield piece as Buffer;
    }
  } finally {
    encoder.destroy();
    await fed;
  }
}
