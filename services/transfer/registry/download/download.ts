import { ErrorKind, FlotillaError, failure, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { RegistryHost } from "../hosts/host.ts";
import { backOff } from "../http/back-off.ts";
import { RegistryError } from "../http/registry-error.ts";
import { ingestRef, mediaTypes } from "../media-type.ts";
import type { Descriptor, DownloadOutcome, DownloadRequest, Ingest } from "../ports.ts";
import type { Repository } from "../repository.ts";
import { appendInBatches } from "./append-in-batches.ts";
import { openStream } from "./stream-content.ts";

/** How often in a row the content store may fail us without a single byte more. */
const fruitlessAttemptsMax = 5;

/** What one download does it with. */
export interface Download extends DownloadRequest {
  readonly repository: Repository;
  readonly descriptor: Descriptor;
  /** Is told how many bytes the store has. */
  readonly onOffset: (offset: number) => void;
}

/**
 * Brings a descriptor into the content store, going on where an ingest has stopped, whoever began it and however it ended.
 *
 * The store hashes the bytes as they arrive and compares at the commit. Bytes that turn out to be wrong are thrown away, and
 * everything is fetched again: from the same hosts if some of the bytes had been there before, else from those that had no
 * part in it.
 *
 * @throws {@link FlotillaError} `failed_precondition` when the registry's bytes are not those of the digest.
 */
export async function downloadContent(download: Download): Promise<DownloadOutcome> {
  const { descriptor, signal, repository } = download;
  if (descriptor.mediaType === mediaTypes.dockerSchema1) {
    throw new FlotillaError(ErrorKind.Unknown, `${descriptor.mediaType} not supported`);
  }
  if (descriptor.size === 0) {
    const message = `unable to fetch descriptor (${descriptor.digest}) which reports content size of zero`;
    throw failure(ErrorKind.InvalidArgument, message);
  }
  let failures = 0;
  let reached = 0;
  let source = repository;
  for (;;) {
    const attempt = new Attempt({ ...download, repository: source });
    try {
      return await attempt.run();
    } catch (error) {
      if (attempt.isSpoilt) {
        const next = sourceAfter(attempt, source);
        if (next === undefined) {
          throw error;
        }
        source = next;
        continue;
      }
      if (signal.aborted || error instanceof RegistryError) {
        throw error;
      }
      failures = attempt.offset > reached ? 1 : failures + 1;
      reached = Math.max(reached, attempt.offset);
      if (!isFailure(error, ErrorKind.Unavailable, ErrorKind.Aborted) || failures > fruitlessAttemptsMax) {
        throw error;
      }
      await backOff({ firstMs: repository.settings.retryDelayMs, failures, signal });
    }
  }
}

/** Where to fetch again what an attempt has spoilt; undefined when there is nobody left to ask. */
function sourceAfter({ wasResumed, hosts }: Attempt, source: Repository): Repository | undefined {
  if (wasResumed) {
    return source;
  }
  const others = source.without(hosts);
  return hosts.size > 0 && others.hostsFor("pull").length > 0 ? others : undefined;
}

/** One hold of the ingest. */
class Attempt {
  readonly #download: Download;
  readonly #ref: string;
  offset = 0;
  /** Some of the bytes had been there before. */
  wasResumed = false;
  /** Where bytes came from. */
  readonly hosts = new Set<RegistryHost>();
  /** The bytes were wrong, and have been thrown away. */
  isSpoilt = false;

  constructor(download: Download) {
    this.#download = download;
    this.#ref = ingestRef(download.descriptor);
  }

  async run(): Promise<DownloadOutcome> {
    let ingest: Ingest;
    try {
      ingest = await this.#openWhenFree();
    } catch (error) {
      if (isFailure(error, ErrorKind.AlreadyExists)) {
        return "existed";
      }
      throw error;
    }
    try {
      await this.#fill(ingest);
      await this.#commit(ingest);
      return "fetched";
    } finally {
      await ingest.close().catch(() => undefined);
      if (this.isSpoilt) {
        await this.#download.content.abort(this.#ref);
      }
    }
  }

  async #fill(ingest: Ingest): Promise<void> {
    const { descriptor, repository, signal } = this.#download;
    const { size } = descriptor;
    if (ingest.offset > size) {
      await ingest.truncate();
    }
    this.wasResumed = ingest.offset > 0;
    this.#tell(ingest.offset);
    const embedded = descriptor.data === undefined ? undefined : Buffer.from(descriptor.data, "base64");
    if (ingest.offset === 0 && embedded?.length === size) {
      await ingest.append(embedded);
      this.#tell(ingest.offset);
      return;
    }
    const onHost = (host: RegistryHost): void => void this.hosts.add(host);
    const stream = openStream({ repository, descriptor, signal, onHost }, ingest.offset);
    await appendInBatches(ingest, stream, size - ingest.offset, (offset) => this.#tell(offset));
  }

  async #commit(ingest: Ingest): Promise<void> {
    try {
      await ingest.commit(this.#download.labels);
    } catch (error) {
      if (isFailure(error, ErrorKind.AlreadyExists)) {
        return;
      }
      this.isSpoilt = isFailure(error, ErrorKind.FailedPrecondition);
      throw wrapFailure(error, `failed commit on ref ${quote(this.#ref)}`);
    }
  }

  /** Waits while somebody else writes the ingest, as long as it grows. */
  async #openWhenFree(): Promise<Ingest> {
    const { content, descriptor, repository, signal } = this.#download;
    const { retryDelayMs, noProgressMs } = repository.settings;
    let movedAtMs = Date.now();
    for (let failures = 1; ; failures += 1) {
      try {
        const { digest, size } = descriptor;
        return await content.openIngest({ ref: this.#ref, expected: digest, totalBytes: size, signal });
      } catch (error) {
        if (!isFailure(error, ErrorKind.Unavailable)) {
          throw error;
        }
        const offset = await content.findIngestOffset(this.#ref, signal);
        if (offset !== undefined && offset !== this.offset) {
          movedAtMs = Date.now();
          this.#tell(offset);
        } else if (Date.now() - movedAtMs > noProgressMs) {
          throw error;
        }
        await backOff({ firstMs: retryDelayMs, failures: Math.min(failures, 3), signal });
      }
    }
  }

  #tell(offset: number): void {
    this.offset = offset;
    this.#download.onOffset(offset);
  }
}
