import { freeMemory } from "#base/free-memory.ts";
import type { Ingest } from "./ports.ts";

/**
 * Gathers pieces into large ones. While one of these is being appended the next is filled: two buffers take turns, so that
 * a blob makes no garbage of its size.
 */
export class BatchedAppend {
  readonly #ingest: Pick<Ingest, "offset" | "append">;
  readonly #batchBytes: number;
  readonly #onAppended: (offset: number) => void;
  #filling: Buffer;
  #resting: Buffer | undefined;
  #filledBytes = 0;
  #appending: Promise<void> = Promise.resolve();

  /**
   * @param batchBytes - Of one append.
   * @param onAppended - Is told how many bytes the ingest has.
   */
  constructor(
    ingest: Pick<Ingest, "offset" | "append">,
    batchBytes: number,
    onAppended: (offset: number) => void = () => undefined,
  ) {
    this.#ingest = ingest;
    this.#batchBytes = batchBytes;
    this.#onAppended = onAppended;
    this.#filling = Buffer.allocUnsafeSlow(batchBytes);
  }

  /** Takes a piece, which is the caller's again when it resolves. @throws What appending an earlier one has failed with. */
  async add(piece: Uint8Array): Promise<void> {
    for (let taken = 0; taken < piece.length; ) {
      const length = Math.min(piece.length - taken, this.#batchBytes - this.#filledBytes);
      this.#filling.set(piece.subarray(taken, taken + length), this.#filledBytes);
      this.#filledBytes += length;
      taken += length;
      if (this.#filledBytes === this.#batchBytes) {
        await this.#passOn();
      }
    }
  }

  /** Appends what there is and gives the buffers back. Nothing can be added then. @throws What appending has failed with. */
  async end(): Promise<void> {
    if (this.#filledBytes > 0) {
      await this.#passOn();
    }
    // What is behind a failed append may still be on its way to the store, and is left to the collector.
    await this.#appending;
    for (const buffer of [this.#filling, this.#resting]) {
      if (buffer !== undefined) {
        freeMemory(buffer.buffer);
      }
    }
  }

  /** Resolves when nothing is under way, however that ended. */
  async settle(): Promise<void> {
    await this.#appending.catch(() => undefined);
  }

  async #passOn(): Promise<void> {
    const batch = this.#filling;
    const data = batch.subarray(0, this.#filledBytes);
    this.#filledBytes = 0;
    // The other buffer is ours again when the store has taken what was in it.
    await this.#appending;
    this.#filling = this.#resting ?? Buffer.allocUnsafeSlow(this.#batchBytes);
    this.#resting = batch;
    this.#appending = this.#ingest.append(data).then(() => this.#onAppended(this.#ingest.offset));
    this.#appending.catch(() => undefined);
  }
}
