import { createHash, type Hash } from "node:crypto";
import { writeSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { type Clock, nsPerMs } from "#base/times.ts";
import { type Digest, type DigestAlgorithm, digestOfHash } from "#containerd/digest.ts";
import type { IngestFile, IngestStatus } from "../domain/ports.ts";
import { diskFailure, onDisk } from "./disk-failure.ts";

/** What is left of the permissions of a blob: nobody may write or run it. */
const sealedMask = 0o444;
const permissionBits = 0o777;
const rereadBytes = 1024 * 1024;
/**
 * Pieces up to this size are written at once: the kernel copies them in some microseconds, and another thread would cost several
 * times that. Clients that copy from a pipe send 32 KiB at a time and wait for each answer.
 */
const directBytesMax = 64 * 1024;
/** A write that takes longer shows a disk that is behind, which must not keep the whole process waiting. */
const slowWriteMs = 5;
/** How long other threads do the waiting then. */
const slowDiskMs = 1_000;

/** An open data file, with the hash of its bytes running along. */
export class IngestDataFile implements IngestFile {
  readonly backendRef: string;
  readonly startedAtNs: bigint;
  readonly #handle: FileHandle;
  readonly #clock: Clock;
  readonly #onClose: (updatedAtNs: bigint) => Promise<void>;
  #updatedAtNs: bigint;
  #offset = 0;
  #algorithm: DigestAlgorithm;
  #hash: Hash;
  #state: "open" | "sealed" | "closed" = "open";
  /** Until when no write is made at once, in milliseconds of the process clock. */
  #slowUntilMs = 0;

  /**
   * The file stands at its start; {@link IngestDataFile.rehash} takes it to the end of what it has.
   *
   * @param source.handle - Open for reading and writing; closed by `close`.
   * @param source.onClose - Notes the time of the last write, once the bytes are durable.
   */
  constructor(source: {
    readonly handle: FileHandle;
    readonly backendRef: string;
    readonly algorithm: DigestAlgorithm;
    readonly times: Pick<IngestStatus, "startedAtNs" | "updatedAtNs">;
    readonly clock: Clock;
    readonly onClose: (updatedAtNs: bigint) => Promise<void>;
  }) {
    this.backendRef = source.backendRef;
    this.startedAtNs = source.times.startedAtNs;
    this.#updatedAtNs = source.times.updatedAtNs;
    this.#handle = source.handle;
    this.#clock = source.clock;
    this.#onClose = source.onClose;
    this.#algorithm = source.algorithm;
    this.#hash = createHash(source.algorithm);
  }

  get updatedAtNs(): bigint {
    return this.#updatedAtNs;
  }

  get offsetBytes(): bigint {
    return BigInt(this.#offset);
  }

  get algorithm(): DigestAlgorithm {
    return this.#algorithm;
  }

  digest(): Digest {
    return digestOfHash(this.#hash, this.#algorithm);
  }

  async append(data: Uint8Array): Promise<void> {
    if (data.length <= directBytesMax && performance.now() >= this.#slowUntilMs) {
      this.#writeAtOnce(data);
      this.#hash.update(data);
    } else {
      // The kernel copies the bytes on another thread while this one hashes them.
      const written = this.#writeFully(data, this.#offset);
      this.#hash.update(data);
      await onDisk("write ingest", written);
    }
    this.#offset += data.length;
    this.#updatedAtNs = this.#clock();
  }

  async truncate(): Promise<void> {
    await onDisk("truncate ingest", this.#handle.truncate(0));
    this.#offset = 0;
    this.#hash = createHash(this.#algorithm);
  }

  async rehash(algorithm: DigestAlgorithm): Promise<void> {
    this.#algorithm = algorithm;
    this.#hash = createHash(algorithm);
    this.#offset = 0;
    const { size } = await this.#handle.stat();
    const buffer = Buffer.allocUnsafeSlow(Math.min(size, rereadBytes));
    while (this.#offset < size) {
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, this.#offset);
      if (bytesRead === 0) {
        return;
      }
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.#offset += bytesRead;
    }
  }

  async seal(): Promise<void> {
    this.#state = "sealed";
    try {
      const { mode } = await this.#handle.stat();
      await this.#handle.chmod(mode & permissionBits & sealedMask);
      const now = new Date(Number(this.#clock() / nsPerMs));
      await this.#handle.utimes(now, now);
    } catch (error) {
      throw diskFailure(error, "make ingest read-only");
    }
    await this.#flush();
  }

  async close(): Promise<void> {
    if (this.#state === "closed") {
      return;
    }
    const wasSealed = this.#state === "sealed";
    this.#state = "closed";
    try {
      if (!wasSealed) {
        await this.#flush();
        await onDisk("note time of ingest", this.#onClose(this.#updatedAtNs));
      }
    } finally {
      await this.#handle.close();
    }
  }

  /** After a failure the kernel may take unwritten pages for written, so that only bytes that come anew can be trusted. */
  async #flush(): Promise<void> {
    try {
      await this.#handle.sync();
    } catch (error) {
      await this.#handle.truncate(0).catch(() => undefined);
      throw diskFailure(error, "flush ingest");
    }
  }

  #writeAtOnce(data: Uint8Array): void {
    const startedMs = performance.now();
    try {
      for (let done = 0; done < data.length; ) {
        done += writeSync(this.#handle.fd, data, done, data.length - done, this.#offset + done);
      }
    } catch (error) {
      throw diskFailure(error, "write ingest");
    }
    const endedMs = performance.now();
    if (endedMs - startedMs > slowWriteMs) {
      this.#slowUntilMs = endedMs + slowDiskMs;
    }
  }

  async #writeFully(data: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < data.length; ) {
      const { bytesWritten } = await this.#handle.write(data, done, data.length - done, position + done);
      done += bytesWritten;
    }
  }
}
