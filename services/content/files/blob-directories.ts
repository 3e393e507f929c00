import { closeSync, constants, openSync, readSync } from "node:fs";
import { chmod, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { syncDirectory } from "#base/durable-file.ts";
import { ErrorKind, type FlotillaError, failure, systemErrorCode } from "#base/errors.ts";
import { type Digest, isDigest } from "#containerd/digest.ts";
import type { BlobFiles, BlobReader, IngestFile } from "../domain/ports.ts";
import { ensureDirectory } from "./directory.ts";
import { diskFailure, onDisk } from "./disk-failure.ts";
import type { ContentLayout } from "./layout.ts";

/** @source containerd v2.3.4 plugins/content/local/writer.go `(*writer).Commit` */
const directoryMode = 0o755;
const writableMode = 0o644;
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW;
/** A small read that takes longer shows a disk that is behind, which must not keep the whole process waiting. */
const slowReadMs = 5;
/** How long other threads do the waiting then. */
const slowDiskMs = 1_000;

/** Blobs as files in containerd's layout. */
export class BlobDirectories implements BlobFiles {
  readonly #layout: ContentLayout;
  readonly #flushDirectory: typeof syncDirectory;
  /** Until when nothing is read at once, in milliseconds of the process clock. */
  #slowUntilMs = 0;

  /** @param flushDirectory - Makes the entries of a directory durable. */
  constructor(layout: ContentLayout, flushDirectory = syncDirectory) {
    this.#layout = layout;
    this.#flushDirectory = flushDirectory;
  }

  path(digest: Digest): string {
    return this.#layout.blob(digest);
  }

  async findSizeBytes(digest: Digest): Promise<bigint | undefined> {
    try {
      const found = await stat(this.path(digest), { bigint: true });
      return found.isFile() ? found.size : undefined;
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        return undefined;
      }
      throw diskFailure(error, `stat blob ${digest}`);
    }
  }

  async place(ingest: IngestFile, digest: Digest): Promise<boolean> {
    const directory = this.#layout.blobDirectory(digest);
    const isThere = (await this.findSizeBytes(digest)) === ingest.offsetBytes;
    if (!isThere) {
      await onDisk("make blob directory", ensureDirectory(directory, directoryMode));
      await onDisk("move ingest to its blob", rename(this.#layout.ingest(ingest.backendRef).data, this.path(digest)));
    }
    // Also when it is there: whoever moved it may have been killed before this.
    await onDisk("flush blob directory", this.#flushDirectory(directory));
    return !isThere;
  }

  async giveBack(ingest: IngestFile, digest: Digest): Promise<void> {
    const { data } = this.#layout.ingest(ingest.backendRef);
    await onDisk("move blob back to its ingest", rename(this.path(digest), data));
    await onDisk("make ingest writable", chmod(data, writableMode));
  }

  async remove(digest: Digest): Promise<void> {
    await onDisk(`remove blob ${digest}`, unlink(this.path(digest)).catch(ignoreAbsent));
  }

  async list(): Promise<Digest[]> {
    const digests: Digest[] = [];
    for (const entry of await onDisk("list blobs", readdir(this.#layout.blobs, { withFileTypes: true }))) {
      const directory = `${this.#layout.blobs}/${entry.name}`;
      for (const encoded of entry.isDirectory() ? await onDisk("list blobs", readdir(directory)) : []) {
        const digest = `${entry.name}:${encoded}`;
        if (isDigest(digest)) {
          digests.push(digest);
        }
      }
    }
    return digests;
  }

  async open(digest: Digest): Promise<BlobReader> {
    try {
      const handle = await open(this.path(digest), readFlags);
      return {
        read: (buffers, positionBytes) => readFully(handle, buffers, Number(positionBytes)),
        close: () => handle.close(),
      };
    } catch (error) {
      throw this.#openFailure(digest, error);
    }
  }

  readAtOnce(digest: Digest, buffer: Uint8Array, positionBytes: bigint): number | undefined {
    const startedMs = performance.now();
    if (startedMs < this.#slowUntilMs) {
      return undefined;
    }
    let descriptor: number;
    try {
      descriptor = openSync(this.path(digest), readFlags);
    } catch (error) {
      throw this.#openFailure(digest, error);
    }
    try {
      return readSync(descriptor, buffer, 0, buffer.length, Number(positionBytes));
    } catch (error) {
      throw diskFailure(error, `read blob ${digest}`);
    } finally {
      closeSync(descriptor);
      const endedMs = performance.now();
      if (endedMs - startedMs > slowReadMs) {
        this.#slowUntilMs = endedMs + slowDiskMs;
      }
    }
  }

  #openFailure(digest: Digest, error: unknown): FlotillaError {
    return systemErrorCode(error) === "ENOENT"
      ? failure(ErrorKind.NotFound, `blob ${digest} expected at ${this.path(digest)}: blob not found`, { cause: error })
      : diskFailure(error, `open blob ${digest}`);
  }
}

function ignoreAbsent(error: unknown): void {
  if (systemErrorCode(error) !== "ENOENT") {
    throw error;
  }
}

async function readFully(
  handle: Awaited<ReturnType<typeof open>>,
  buffers: readonly Uint8Array[],
  position: number,
): Promise<number> {
  let left = buffers;
  let done = 0;
  while (left.length > 0) {
    const { bytesRead } = await handle.readv(left, position + done);
    if (bytesRead === 0) {
      break;
    }
    done += bytesRead;
    left = behind(left, bytesRead);
  }
  return done;
}

/** What is left of buffers when so many bytes have been put into them. */
function behind(buffers: readonly Uint8Array[], sizeBytes: number): Uint8Array[] {
  const left: Uint8Array[] = [];
  let skippedBytes = sizeBytes;
  for (const buffer of buffers) {
    if (skippedBytes < buffer.byteLength) {
      left.push(buffer.subarray(skippedBytes));
    }
    skippedBytes = Math.max(0, skippedBytes - buffer.byteLength);
  }
  return left;
}
