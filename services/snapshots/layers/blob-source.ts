import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { ErrorKind, errorMessage, FlotillaError, failure, systemErrorCode } from "#base/errors.ts";
import { type Digest, splitDigest } from "#containerd/digest.ts";

/** What the bytes of a blob have to be. */
export interface ExpectedBlob {
  readonly digest: Digest;
  /** 0 when unknown. */
  readonly sizeBytes: number;
}

/** Bytes that are read at a time. */
const readBytes = 512 * 1024;

/**
 * The file of a blob, which is hashed while it is read.
 *
 * The next piece is on its way while one is being used.
 */
export class BlobSource implements AsyncDisposable {
  readonly #handle: FileHandle;
  readonly #expected: ExpectedBlob | undefined;
  readonly #hash: Hash | undefined;
  #usedBytes = 0;

  private constructor(handle: FileHandle, expected: ExpectedBlob | undefined) {
    this.#handle = handle;
    this.#expected = expected;
    this.#hash = expected === undefined ? undefined : createHash(splitDigest(expected.digest).algorithm);
  }

  /**
   * Opens a blob.
   *
   * @param expected - What it has to be; undefined to take it as it is.
   * @throws {@link FlotillaError} `not_found` when it is gone.
   */
  static async open(path: string, expected: ExpectedBlob | undefined): Promise<BlobSource> {
    try {
      return new BlobSource(await open(path, "r"), expected);
    } catch (error) {
      const kind = systemErrorCode(error) === "ENOENT" ? ErrorKind.NotFound : ErrorKind.Unknown;
      throw new FlotillaError(kind, `open blob: ${errorMessage(error)}`, { cause: error });
    }
  }

  /** Bytes that have been read so far. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The bytes from where reading stopped, in pieces that belong to the reader. */
  async *read(signal: AbortSignal): AsyncGenerator<Buffer> {
    let next = this.#readPiece(this.#usedBytes);
    try {
      for (;;) {
        const piece = await next;
        signal.throwIfAborted();
        if (piece.length === 0) {
          return;
        }
        this.#usedBytes += piece.length;
        next = this.#readPiece(this.#usedBytes);
        this.#hash?.update(piece);
        yield piece;
      }
    } finally {
      await next.catch(() => undefined);
    }
  }

  /**
   * Makes sure that the blob is what is expected, to its last byte, whether or not somebody had use for it.
   *
   * @throws {@link FlotillaError} `failed_precondition`
   * @source containerd v2.3.4 plugins/content/local/writer.go `(*writer).Commit`
   */
  async verify(signal: AbortSignal): Promise<void> {
    if (this.#expected === undefined || this.#hash === undefined) {
      return;
    }
    for await (const piece of this.read(signal)) {
      void piece;
    }
    const { digest, sizeBytes } = this.#expected;
    if (sizeBytes !== 0 && sizeBytes !== this.#usedBytes) {
      throw failure(ErrorKind.FailedPrecondition, `unexpected commit size ${this.#usedBytes}, expected ${sizeBytes}`);
    }
    const found = `${splitDigest(digest).algorithm}:${this.#hash.digest("hex")}`;
    if (found !== digest) {
      throw failure(ErrorKind.FailedPrecondition, `unexpected commit digest ${found}, expected ${digest}`);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#handle.close();
  }

  async #readPiece(position: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(readBytes);
    const { bytesRead } = await this.#handle.read(buffer, 0, readBytes, position);
    return buffer.subarray(0, bytesRead);
  }
}
