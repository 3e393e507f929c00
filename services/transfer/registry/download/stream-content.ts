import { backOff } from "../http/back-off.ts";
import { isTransient } from "../http/registry-error.ts";
import type { ByteStream } from "../ports.ts";
import { type ByteRange, type ContentSource, openContent } from "./open-content.ts";

/** How often in a row a download may break without a single byte more. */
const fruitlessAttemptsMax = 5;
/** Below this a piece is not worth a request of its own. @source containerd v2.3.4 core/remotes/docker/fetcher.go `minChunkSize` */
const chunkBytesMin = 512;
/** The most that one of several requests side by side holds in memory. containerd's setting is a maximum too. */
const chunkBytesMax = 4 * 1024 * 1024;

/**
 * The bytes of a descriptor from an offset on. What breaks is taken up where it broke, on whichever host has it then.
 *
 * Where settings and registry allow, a large one comes by several requests side by side, each held in memory until its
 * turn.
 */
export async function* streamContent(source: ContentSource, offset: number): AsyncGenerator<Uint8Array> {
  const end = source.descriptor.size;
  let start = offset;
  for await (const piece of streamSideBySide(source, { start, end })) {
    start += piece.length;
    yield piece;
  }
  yield* streamRange(source, { start, end });
}

/** One request after another, as many as it takes, each in one of the registry's turns. */
async function* streamRange(source: ContentSource, { start, end }: ByteRange): AsyncGenerator<Uint8Array> {
  const { repository, signal } = source;
  let position = start;
  let failures = 0;
  while (position < end) {
    const turn = await repository.turns.take(signal);
    let isOpen = false;
    try {
      const { body } = await openContent(source, { start: position, end });
      isOpen = true;
      for await (const piece of body) {
        // A server that ignores ranges gives more than is wanted here.
        const wanted = piece.subarray(0, end - position);
        position += wanted.length;
        failures = 0;
        yield wanted;
        if (position === end) {
          return;
        }
      }
    } catch (error) {
      failures += 1;
      // Who could not be reached in the first place has been asked often enough; who was there may be back in a while.
      const wasThere = isOpen || position > start;
      if (!isTransient(error) || !wasThere || failures > fruitlessAttemptsMax) {
        throw error;
      }
    } finally {
      turn[Symbol.dispose]();
    }
    await backOff({ firstMs: repository.settings.retryDelayMs, failures, signal });
  }
}

/** Ends early when one request is all that is to be had: by the settings, or because the server ignores ranges. */
async function* streamSideBySide(source: ContentSource, { start, end }: ByteRange): AsyncGenerator<Uint8Array> {
  const { concurrentLayerFetchBytes, maxConcurrentDownloads } = source.repository.settings;
  const chunkBytes = Math.min(concurrentLayerFetchBytes, chunkBytesMax);
  if (chunkBytes < chunkBytesMin || maxConcurrentDownloads < 2 || end - start <= chunkBytes) {
    return;
  }
  if (await ignoresRanges(source, start)) {
    return;
  }
  const stop = new AbortController();
  const stoppable = { ...source, signal: AbortSignal.any([source.signal, stop.signal]) };
  const underWay: Promise<Buffer>[] = [];
  const free: Buffer[] = [];
  let next = start;
  const fill = (): void => {
    while (next < end && underWay.length < maxConcurrentDownloads) {
      const chunk = { start: next, end: Math.min(end, next + chunkBytes) };
      const fetching = readChunk(stoppable, chunk, free.pop() ?? Buffer.allocUnsafeSlow(chunkBytes));
      fetching.catch(() => undefined);
      underWay.push(fetching);
      next = chunk.end;
    }
  };
  try {
    for (fill(); underWay.length > 0; fill()) {
      const chunk = await underWay[0];
      void underWay.shift();
      if (chunk !== undefined) {
        yield chunk;
        free.push(Buffer.from(chunk.buffer));
      }
    }
  } finally {
    stop.abort();
    await Promise.allSettled(underWay);
  }
}

async function ignoresRanges(source: ContentSource, start: number): Promise<boolean> {
  const turn = await source.repository.turns.take(source.signal);
  try {
    const { body, ignoresRange } = await openContent(source, { start, end: start + 1 });
    const pieces = body[Symbol.asyncIterator]();
    await pieces.next();
    // It was a single byte, or a body that is not wanted.
    await pieces.return?.();
    return ignoresRange;
  } finally {
    turn[Symbol.dispose]();
  }
}

/** @returns the part of the buffer that the range has filled. */
async function readChunk(source: ContentSource, range: ByteRange, buffer: Buffer): Promise<Buffer> {
  let filledBytes = 0;
  for await (const piece of streamRange(source, range)) {
    buffer.set(piece, filledBytes);
    filledBytes += piece.length;
  }
  return buffer.subarray(0, filledBytes);
}

/** {@link streamContent} as {@link ByteStream}, so that nothing happens before somebody reads. */
export function openStream(source: ContentSource, offset: number): ByteStream {
  return { [Symbol.asyncIterator]: () => streamContent(source, offset) };
}
