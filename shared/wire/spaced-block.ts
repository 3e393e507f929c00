import { messagePrefixBytes, writePrefix } from "./grpc/grpc-wire.ts";
import { BorrowedResponse } from "./handler.ts";
import { frameBytesMax } from "./http2/limits.ts";
import { frameHeadBytes } from "./http2/protocol.ts";
import type { QueuedPiece } from "./http2/queued-piece.ts";

/** What may stand in a message before its bytes: their tag and length, and an offset. */
const messageHeadBytesMax = 32;
/** Where the bytes of the block begin: behind the head of the first frame and what the message begins with. */
const bytesStart = frameHeadBytes + messagePrefixBytes + messageHeadBytesMax;
/** Bytes of the block in its first frame. */
const firstBytesMax = frameBytesMax - messagePrefixBytes - messageHeadBytesMax;

/** A message that lies in a {@link SpacedBlock}. */
export class SpacedResponse extends BorrowedResponse {
  /** The message with its prefix, a piece for each frame. */
  readonly pieces: readonly QueuedPiece[];

  constructor(pieces: readonly QueuedPiece[], parts: readonly Uint8Array[]) {
    super(...parts);
    this.pieces = pieces;
  }
}

/**
 * Memory for a block of bytes that is to be sent as a message, with room between them for the heads of the frames that carry it: it is read from a
 * file to where the socket takes it from, and written without being cut or copied.
 */
export class SpacedBlock {
  readonly #memory: Buffer<ArrayBuffer>;
  /** The memory for the block, or for the part of it that was asked for last. */
  #views: readonly Uint8Array<ArrayBuffer>[] = [];
  #viewedBytes = -1;

  /** @param bytesMax - Of the block. */
  constructor(bytesMax: number) {
    const laterFrames = Math.ceil(Math.max(0, bytesMax - firstBytesMax) / frameBytesMax);
    this.#memory = Buffer.allocUnsafeSlow(bytesStart + bytesMax + laterFrames * frameHeadBytes);
  }

  /** Where so many bytes go, in their order. */
  views(lengthBytes: number): readonly Uint8Array<ArrayBuffer>[] {
    if (lengthBytes !== this.#viewedBytes) {
      this.#viewedBytes = lengthBytes;
      this.#views = this.#makeViews(lengthBytes);
    }
    return this.#views;
  }

  /**
   * The message of so many bytes, which have been put into {@link views}.
   *
   * @param head - What the message has before them.
   */
  message(head: Uint8Array, lengthBytes: number): SpacedResponse {
    const memory = this.#memory;
    const views = this.views(lengthBytes);
    const start = bytesStart - head.byteLength - messagePrefixBytes;
    writePrefix(memory, start, head.byteLength + lengthBytes);
    memory.set(head, start + messagePrefixBytes);
    const pieces = views.map(({ byteOffset, byteLength }, index) => ({
      memory,
      start: index === 0 ? start : byteOffset,
      end: byteOffset + byteLength,
      isSpaced: true,
    }));
    return new SpacedResponse(pieces, [head, ...views]);
  }

  #makeViews(lengthBytes: number): Uint8Array<ArrayBuffer>[] {
    const firstEnd = bytesStart + Math.min(lengthBytes, firstBytesMax);
    const views = [this.#memory.subarray(bytesStart, firstEnd)];
    let leftBytes = lengthBytes - firstBytesMax;
    for (let start = firstEnd + frameHeadBytes; leftBytes > 0; start += frameBytesMax + frameHeadBytes) {
      views.push(this.#memory.subarray(start, start + Math.min(leftBytes, frameBytesMax)));
      leftBytes -= frameBytesMax;
    }
    return views;
  }
}
