import { ErrorKind, failure } from "#base/errors.ts";
import type { Chunk } from "../http2/chunk.ts";
import { frameBytesMax } from "../http2/limits.ts";
import type { MessageLimits } from "../message-limits.ts";
import { tooLarge } from "./answers.ts";
import { messagePrefixBytes } from "./grpc-wire.ts";

/** Memory that is kept for the next message of a stream. Clients send bytes by the MiB at most, with some words around them. */
const spareBytesMax = 2 * 1024 * 1024;
/** Large memory is made in multiples of this: messages with as many bytes of a file differ a little in what stands before them. */
const spareUnitBytes = 4096;

/** The stream whose messages are put together. */
export interface ChunkKeeper {
  /** How large a message may be. */
  readonly messageLimits: Pick<MessageLimits, "receivedBytes">;
  /** Keeps the chunk that is being read, for as long as its bytes are needed. */
  keepChunk(): Chunk | undefined;
}

/**
 * Puts the messages of a gRPC stream together from the pieces in which they arrive.
 *
 * A message that lies whole in a piece is a view of it; any other is copied once, when its last piece has come, so that no more
 * memory is taken than has arrived.
 *
 * @source grpc/grpc doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message
 */
export class MessageAssembler {
  readonly #keeper: ChunkKeeper;
  readonly #prefix = Buffer.allocUnsafe(messagePrefixBytes);
  #prefixBytes = 0;
  #lengthBytes = 0;
  #pieces: Buffer[] = [];
  #chunks: Chunk[] = [];
  #bodyBytes = 0;
  /** Memory of a message that nobody needs any more, for the next one. */
  #spare: Buffer | undefined;

  constructor(keeper: ChunkKeeper) {
    this.#keeper = keeper;
  }

  /** Whether the last message is incomplete. */
  get isInside(): boolean {
    return this.#prefixBytes > 0;
  }

  /**
   * Takes a piece and gives the messages that end in it.
   *
   * @param isLent - Whether the messages are used before this piece is somebody else's, so that it need not be kept for them.
   * @throws {@link FlotillaError} `internal` for a compressed message, `resource_exhausted` for one larger than is allowed, of
   *   which nothing has been stored then. The stream is of no use afterwards.
   */
  push(chunk: Buffer, start: number, end: number, isLent = false): Uint8Array[] {
    const messages: Uint8Array[] = [];
    let at = start;
    while (at < end || (this.#prefixBytes === messagePrefixBytes && this.#lengthBytes === this.#bodyBytes)) {
      if (this.#prefixBytes < messagePrefixBytes) {
        at += this.#takePrefix(chunk, at, end);
        if (this.#prefixBytes < messagePrefixBytes) {
          break;
        }
      }
      const missingBytes = this.#lengthBytes - this.#bodyBytes;
      const taken = Math.min(missingBytes, end - at);
      if (taken === missingBytes && this.#bodyBytes === 0) {
        if (taken > 0 && !isLent) {
          this.#keeper.keepChunk();
        }
        // Without bytes there is nothing to keep the chunk for, and a view of one that is gone cannot be read.
        messages.push(taken > 0 ? chunk.subarray(at, at + taken) : new Uint8Array());
        this.#prefixBytes = 0;
      } else if (taken > 0) {
        this.#keep(chunk.subarray(at, at + taken));
        if (taken === missingBytes) {
          messages.push(this.#join());
        }
      }
      at += taken;
    }
    return messages;
  }

  #keep(piece: Buffer): void {
    const chunk = this.#keeper.keepChunk();
    if (chunk !== undefined) {
      this.#chunks.push(chunk);
    }
    this.#pieces.push(piece);
    this.#bodyBytes += piece.length;
  }

  #join(): Uint8Array {
    const message = this.#allocate(this.#bodyBytes);
    let at = 0;
    for (const piece of this.#pieces) {
      at += piece.copy(message, at);
    }
    for (const chunk of this.#chunks) {
      chunk.release();
    }
    this.#pieces = [];
    this.#chunks = [];
    this.#bodyBytes = 0;
    this.#prefixBytes = 0;
    return message;
  }

  /**
   * Takes back a message that {@link push} gave and that nobody refers to any more. The next one may get its memory, so that a stream of
   * large messages makes no garbage.
   */
  reuse({ buffer, byteLength }: Uint8Array): void {
    // What is larger than a piece can be has been copied into memory of its own.
    if (byteLength > frameBytesMax && buffer.byteLength <= spareBytesMax) {
      this.#spare = Buffer.from(buffer as ArrayBuffer);
    }
  }

  #allocate(sizeBytes: number): Buffer {
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare !== undefined && spare.length >= sizeBytes) {
      return spare.subarray(0, sizeBytes);
    }
    const unitBytes = sizeBytes > frameBytesMax ? spareUnitBytes : 1;
    return Buffer.allocUnsafeSlow(Math.ceil(sizeBytes / unitBytes) * unitBytes).subarray(0, sizeBytes);
  }

  #takePrefix(chunk: Buffer, at: number, end: number): number {
    const taken = Math.min(messagePrefixBytes - this.#prefixBytes, end - at);
    for (let offset = 0; offset < taken; offset++) {
      this.#prefix[this.#prefixBytes + offset] = chunk[at + offset] as number;
    }
    this.#prefixBytes += taken;
    if (this.#prefixBytes === messagePrefixBytes) {
      if (this.#prefix[0] !== 0) {
        throw failure(ErrorKind.Internal, "a message of the stream is compressed");
      }
      this.#lengthBytes = this.#prefix.readUInt32BE(1);
      const { receivedBytes } = this.#keeper.messageLimits;
      if (this.#lengthBytes > receivedBytes) {
        throw tooLarge("grpc: received message larger than max", this.#lengthBytes, receivedBytes);
      }
    }
    return taken;
  }
}
