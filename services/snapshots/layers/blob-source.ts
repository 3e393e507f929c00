import { type FileHandle, open } from "node:fs/promises";
import { ErrorKind, errorMessage, FlotillaError, failure, systemErrorCode } from "#base/errors.ts";
import { freeMemory } from "#base/free-memory.ts";

/** Bytes that are read at a time. */
const readBytes = 512 * 1024;

/**
 * The file of a blob.
 *
 * The next piece is on its way while one is being used: two buffers take turns, so that a layer makes no garbage.
 */
export class BlobSource implements AsyncDisposable {
  readonly #handle: FileHandle;
  readonly #buffers: readonly [Buffer, Buffer];
  #usedBytes = 0;

  private constructor(handle: FileHandle, bufferBytes: number) {
    this.#handle = handle;
    this.#buffers = [Buffer.allocUnsafeSlow(bufferBytes), Buffer.allocUnsafeSlow(bufferBytes)];
  }

  /**
   * Opens a blob.
   *
   * Its bytes were compared with its digest before it became a blob, and what they unpack to is compared with the diff ID by who
   * unpacks, so that they are not hashed here once more.
   *
   * @param expectedBytes - The size that it has to have; 0 when unknown.
   * @throws {@link FlotillaError} `not_found` when it is gone; `failed_precondition` when it has another size.
   * @source containerd v2.3.4 core/diff/apply/apply.go `(*fsApplier).Apply`, plugins/content/local/writer.go `(*writer).Commit`
   */
  static async open(path: string, expectedBytes: number): Promise<BlobSource> {
    let handle: FileHandle;
    try {
      handle = await open(path, "r");
    } catch (error) {
      const kind = systemErrorCode(error) === "ENOENT" ? ErrorKind.NotFound : ErrorKind.Unknown;
      throw new FlotillaError(kind, `open blob: ${errorMessage(error)}`, { cause: error });
    }
    try {
      const { size } = await handle.stat();
      if (expectedBytes !== 0 && size !== expectedBytes) {
        throw failure(ErrorKind.FailedPrecondition, `unexpected commit size ${size}, expected ${expectedBytes}`);
      }
      return new BlobSource(handle, Math.max(1, Math.min(readBytes, size)));
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Bytes that have been read so far. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The bytes in pieces, each of which is good until the next is asked for. To be called once. */
  async *read(signal: AbortSignal): AsyncGenerator<Buffer> {
    let [filling, resting] = this.#buffers;
    let next = this.#readPiece(filling);
    try {
      for (;;) {
        const piece = await next;
        signal.throwIfAborted();
        if (piece.length === 0) {
          this.#buffers.forEach(({ buffer }) => freeMemory(buffer));
          return;
        }
        this.#usedBytes += piece.length;
        [filling, resting] = [resting, filling];
        next = this.#readPiece(filling);
        yield piece;
      }
    } finally {
      await next.catch(() => undefined);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#handle.close();
  }

  async #readPiece(buffer: Buffer): Promise<Buffer> {
    const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, this.#usedBytes);
    return buffer.subarray(0, bytesRead);
  }
}
