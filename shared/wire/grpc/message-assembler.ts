import { ErrorKind, failure } from "#base/errors.ts";
import { messageBytesMax } from "#base/limits.ts";
import { messagePrefixBytes } from "./grpc-wire.ts";
import { tooLarge } from "./thin-answer.ts";

/**
 * Puts the messages of a gRPC stream together from the chunks in which they arrive.
 *
 * A message that lies whole in a chunk is a view of it; any other is copied once, into memory of its own.
 *
 * @source grpc/grpc doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message
 */
export class MessageAssembler {
  readonly #prefix = Buffer.alloc(messagePrefixBytes);
  #prefixBytes = 0;
  #body: Buffer | undefined;
  #bodyBytes = 0;

  /** Whether the last message is incomplete. */
  get isInside(): boolean {
    return this.#prefixBytes > 0;
  }

  /**
   * Takes a chunk and gives the messages that end in it.
   *
   * @throws {@link FlotillaError} `internal` for a compressed message, `resource_exhausted` for one of more than 16 MiB, of
   *   which nothing has been stored then. The stream is of no use afterwards.
   */
  push(chunk: Buffer): Uint8Array[] {
    const messages: Uint8Array[] = [];
    for (let at = 0; at < chunk.length; ) {
      if (this.#prefixBytes < messagePrefixBytes) {
        at += this.#takePrefix(chunk, at);
        if (this.#prefixBytes < messagePrefixBytes) {
          break;
        }
      }
      const lengthBytes = this.#prefix.readUInt32BE(1);
      if (this.#body === undefined && chunk.length - at >= lengthBytes) {
        messages.push(chunk.subarray(at, at + lengthBytes));
        this.#prefixBytes = 0;
        at += lengthBytes;
        continue;
      }
      this.#body ??= Buffer.allocUnsafeSlow(lengthBytes);
      const taken = chunk.copy(this.#body, this.#bodyBytes, at);
      this.#bodyBytes += taken;
      at += taken;
      if (this.#bodyBytes === lengthBytes) {
        messages.push(this.#body);
        this.#prefixBytes = 0;
        this.#body = undefined;
        this.#bodyBytes = 0;
      }
    }
    return messages;
  }

  #takePrefix(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#prefix, this.#prefixBytes, at, at + messagePrefixBytes - this.#prefixBytes);
    this.#prefixBytes += taken;
    if (this.#prefixBytes === messagePrefixBytes) {
      if (this.#prefix[0] !== 0) {
        throw failure(ErrorKind.Internal, "a message of the stream is compressed");
      }
      const lengthBytes = this.#prefix.readUInt32BE(1);
      if (lengthBytes > messageBytesMax) {
        throw tooLarge("grpc: received message larger than max", lengthBytes);
      }
    }
    return taken;
  }
}
