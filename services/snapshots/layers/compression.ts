import type { Transform } from "node:stream";
import { createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from "node:zlib";
import { ErrorKind, errorMessage, FlotillaError, systemErrorCode } from "#base/errors.ts";
import { freeMemory } from "#base/free-memory.ts";

/** How a layer is compressed. */
export type Compression = "none" | "gzip" | "zstd";

/** Bytes at the start of a stream that tell its compression. @source containerd v2.3.4 pkg/archive/compression `DecompressStream` */
const magicBytes = 10;
/** Output comes in pieces of this size: the fastest of 16 KiB to 1 MiB in a measurement. */
const pieceBytes = 256 * 1024;
/** Output that is decompressed ahead of its use. */
const aheadBytes = 2 * 1024 * 1024;

/**
 * Tells the compression of a stream by its first bytes.
 *
 * @source RFC 1952 2.3; RFC 8878 3.1; containerd v2.3.4 pkg/archive/compression/compression.go `DetectCompression`
 */
export function detectCompression(head: Buffer): Compression {
  if (head.length >= 3 && head[0] === 0x1f && head[1] === 0x8b && head[2] === 8) {
    return "gzip";
  }
  const magic = head.length >= 4 ? head.readUInt32LE(0) : 0;
  const isSkippableFrame = head.length >= 8 && magic >= 0x184d2a50 && magic <= 0x184d2a5f;
  return magic === 0xfd2fb528 || isSkippableFrame ? "zstd" : "none";
}

/** How to decompress. */
export interface Decompression {
  /** Program for gzip in place of zlib; see `findGzipProgram`. */
  readonly program: string | undefined;
  /** Ends the program. */
  readonly signal: AbortSignal;
}

/**
 * Decompresses a stream, whatever its compression is; a stream without passes as it is, an empty one too.
 *
 * gzip of several members and zstd of several frames are read to the end. What comes after them and is neither is an error, as
 * in Go. Decompression runs on threads of the pool or in a program of its own, ahead of the reader. Pieces are good until the next is asked for.
 *
 * @throws {@link FlotillaError} with the words of Go's decompressors where they have the same reason.
 */
export async function* decompress(
  source: AsyncIterable<Buffer>,
  { program, signal }: Decompression,
): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]();
  try {
    let head: Buffer = Buffer.alloc(0);
    while (head.length < magicBytes) {
      const next = await chunks.next();
      if (next.done === true) {
        break;
      }
      // A piece that is too short has to be kept over the next one.
      head = head.length === 0 && next.value.length >= magicBytes ? next.value : Buffer.concat([head, next.value]);
    }
    const compression = detectCompression(head);
    const all = prepend(head, chunks);
    if (compression === "none") {
      yield* all;
    } else if (compression === "gzip" && program !== undefined) {
      yield* runProgram(program, all, signal);
    } else {
      yield* runDecoder(openDecoder(compression), compression, all);
    }
  } finally {
    await chunks.return?.();
  }
}

async function* runProgram(path: string, source: AsyncIterable<Buffer>, signal: AbortSignal): AsyncGenerator<Buffer> {
  const { processStream } = await import("./stream-processor.ts");
  const config = { path, args: ["-d", "-c"], env: [] };
  try {
    yield* processStream(source, { config, input: "application/gzip", payload: undefined, signal });
  } catch (error) {
    throw errorMessage(error).includes("does not contain a complete gzip file")
      ? new FlotillaError(ErrorKind.Unknown, "unexpected EOF", { cause: error })
      : error;
  }
}

async function* prepend(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) {
    yield head;
  }
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
    yield next.value;
  }
}

type Decoder = Gunzip | ZstdDecompress;

function openDecoder(compression: "gzip" | "zstd"): Decoder {
  const options = { chunkSize: pieceBytes, highWaterMark: aheadBytes };
  return compression === "gzip" ? createGunzip(options) : createZstdDecompress(options);
}

async function* runDecoder(
  decoder: Decoder,
  compression: "gzip" | "zstd",
  source: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer> {
  let inputFailure: { readonly error: unknown } | undefined;
  let fedBytes = 0;
  const feed = async (): Promise<void> => {
    try {
      for await (const chunk of source) {
        if (decoder.destroyed || decoder.readableEnded) {
          fedBytes += chunk.length;
          return;
        }
        fedBytes += chunk.length;
        await writeTo(decoder, chunk);
      }
      decoder.end();
    } catch (error) {
      inputFailure = { error };
      decoder.destroy(error instanceof Error ? error : new Error(errorMessage(error)));
    }
  };
  const fed = feed();
  try {
    for await (const piece of decoder as AsyncIterable<Buffer>) {
      yield piece;
      // The decoder fills one buffer after the other, each in one or several pieces, and has another once one is full.
      if (piece.byteOffset + piece.byteLength === pieceBytes) {
        freeMemory(piece.buffer);
      }
    }
  } catch (error) {
    throw inputFailure === undefined ? decoderFailure(error) : inputFailure.error;
  } finally {
    decoder.destroy();
    await fed;
  }
  if (fedBytes > decoder.bytesWritten) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      compression === "gzip" ? "gzip: invalid header" : "invalid input: magic number mismatch",
    );
  }
}

/**
 * Resolves when a stream of zlib has taken in a chunk, or will not any more: one that fails or is destroyed while it works does not
 * call back.
 */
export function writeTo(stream: Transform, chunk: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off("close", done);
      resolve();
    };
    stream.once("close", done);
    stream.write(chunk, done);
  });
}

/** @source Go compress/gzip gunzip.go `ErrHeader`, `ErrChecksum`; compress/flate inflate.go `CorruptInputError` */
function decoderFailure(error: unknown): FlotillaError {
  const reason = errorMessage(error);
  const words: Readonly<Record<string, string>> = {
    "unexpected end of file": "unexpected EOF",
    "incorrect header check": "gzip: invalid header",
    "unknown compression method": "gzip: invalid header",
    "incorrect data check": "gzip: invalid checksum",
    "incorrect length check": "gzip: invalid checksum",
  };
  const isGzip = systemErrorCode(error)?.startsWith("Z_") === true;
  const text = words[reason] ?? (isGzip ? `flate: corrupt input: ${reason}` : `invalid input: ${reason}`);
  return new FlotillaError(ErrorKind.Unknown, text, { cause: error });
}
