import { backOff } from "../http/back-off.ts";
import { isTransient } from "../http/registry-error.ts";
import type { ByteStream, Descriptor } from "../ports.ts";
import type { Repository } from "../repository.ts";
import { type ByteRange, openContent } from "./open-content.ts";

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
export async function* streamContent(
  repository: Repository,
  descriptor: Descriptor,
  offset: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { size } = descriptor;
  let start = offset;
  for await (const piece of streamSideBySide(repository, descriptor, { start, end: size }, signal)) {
    start += piece.length;
    yield piece;
  }
  yield* streamRange(repository, descriptor, { start, end: size }, signal);
}

/** One request after another, as many as it takes. */
async function* streamRange(
  repository: Repository,
  descriptor: Descriptor,
  { start, end }: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let position = start;
  let failures = 0;
  while (position < end) {
    try {
      for await (const piece of takeRange(repository, descriptor, { start: position, end }, signal)) {
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
      const isHopeless = position === start && failures > 1;
      if (!isTransient(error) || isHopeless || failures > fruitlessAttemptsMax) {
        throw error;
      }
      await backOff({ firstMs: repository.settings.retryDelayMs, failures, signal });
    }
  }
}

/** One request, in one of the registry's places. */
async function* takeRange(
  repository: Repository,
  descriptor: Descriptor,
  range: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const slot = await repository.slots.take(signal);
  try {
    yield* (await openContent(repository, descriptor, range, signal)).body;
  } finally {
    slot[Symbol.dispose]();
  }
}

/** Ends early when one request is all that is to be had: by the settings, or because the server ignores ranges. */
async function* streamSideBySide(
  repository: Repository,
  descriptor: Descriptor,
  { start, end }: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { concurrentLayerFetchBytes, maxConcurrentDownloads } = repository.settings;
  const chunkBytes = Math.min(concurrentLayerFetchBytes, chunkBytesMax);
  if (chunkBytes < chunkBytesMin || maxConcurrentDownloads < 2 || end - start <= chunkBytes) {
    return;
  }
  if (await ignoresRanges(repository, descriptor, { start, end: start + chunkBytes }, signal)) {
    return;
  }
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const underWay: Promise<Uint8Array>[] = [];
  let next = start;
  const fill = (): void => {
    while (next < end && underWay.length < maxConcurrentDownloads) {
      const chunk = { start: next, end: Math.min(end, next + chunkBytes) };
      const fetching = readChunk(repository, descriptor, chunk, both);
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
      }
    }
  } finally {
    stop.abort();
    await Promise.allSettled(underWay);
  }
}

async function ignoresRanges(
  repository: Repository,
  descriptor: Descriptor,
  { start }: ByteRange,
  signal: AbortSignal,
): Promise<boolean> {
  const slot = await repository.slots.take(signal);
  try {
    const { body, ignoresRange } = await openContent(repository, descriptor, { start, end: start + 1 }, signal);
    const pieces = body[Symbol.asyncIterator]();
    await pieces.next();
    // It was a single byte, or a body that is not wanted.
    await pieces.return?.();
    return ignoresRange;
  } finally {
    slot[Symbol.dispose]();
  }
}

async function readChunk(
  repository: Repository,
  descriptor: Descriptor,
  range: ByteRange,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const chunk = Buffer.allocUnsafe(range.end - range.start);
  let filledBytes = 0;
  for await (const piece of streamRange(repository, descriptor, range, signal)) {
    chunk.set(piece, filledBytes);
    filledBytes += piece.length;
  }
  return chunk;
}

/** {@link streamContent} as {@link ByteStream}, so that nothing happens before somebody reads. */
export function openStream(
  repository: Repository,
  descriptor: Descriptor,
  { offset, signal }: { readonly offset: number; readonly signal: AbortSignal },
): ByteStream {
  return { [Symbol.asyncIterator]: () => streamContent(repository, descriptor, offset, signal) };
}
