import { Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";

/** Bytes that tell how an archive is compressed. */
const magicBytes = 10;
/** Bytes that a decompressor hands out at a time. */
const pieceBytes = 64 * 1024;

/** How bytes are compressed. */
export type Compression = "none" | "gzip" | "zstd";

/**
 * Tells by the first bytes how something is compressed.
 *
 * @source containerd v2.3.4 pkg/archive/compression/compression.go `DetectCompression`
 */
export function detectCompression(start: Uint8Array): Compression {
  const [first = 0, second = 0, third = 0, fourth = 0] = start;
  if (first === 0x1f && second === 0x8b && third === 0x08) {
    return "gzip";
  }
  const isFrame = first === 0x28 && second === 0xb5 && third === 0x2f && fourth === 0xfd;
  const isSkippable = (first & 0xf0) === 0x50 && second === 0x2a && third === 0x4d && fourth === 0x18;
  return isFrame || (isSkippable && start.length >= 8) ? "zstd" : "none";
}

/**
 * The bytes as they were before they were compressed, if they were.
 *
 * @param bytes - In pieces that are good until the next is asked for, as those that come out.
 */
export async function* decompressed(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = bytes[Symbol.asyncIterator]();
  const start: Uint8Array[] = [];
  let length = 0;
  while (length < magicBytes) {
    const { done, value } = await iterator.next();
    if (done === true) {
      break;
    }
    start.push(Buffer.from(value));
    length += value.length;
  }
  const whole = rejoin(start, iterator);
  const compression = detectCompression(Buffer.concat(start));
  if (compression === "none") {
    yield* whole;
    return;
  }
  const options = { chunkSize: pieceBytes };
  const decompressor = compression === "gzip" ? createGunzip(options) : createZstdDecompress(options);
  const source = Readable.from(copied(whole), { objectMode: false });
  source.once("error", (error) => decompressor.destroy(error));
  try {
    yield* source.pipe(decompressor) as AsyncIterable<Uint8Array>;
  } finally {
    source.destroy();
  }
}

async function* rejoin(start: readonly Uint8Array[], rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* start;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
      yield next.value;
    }
  } finally {
    await rest.return?.();
  }
}

/** The pieces as ones that may wait for the decompressor. */
async function* copied(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    yield Buffer.from(piece);
  }
}
