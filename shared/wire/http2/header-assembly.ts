import { headerBlockBytesMax, headerBlockFramesMax } from "./limits.ts";
import { ConnectionFault, ErrorCode } from "./protocol.ts";

/** A header block that arrives in several frames. */
export class HeaderAssembly {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly #parts: Buffer[];
  #sizeBytes: number;

  constructor(streamId: number, endStream: boolean, first: Buffer) {
    this.streamId = streamId;
    this.endStream = endStream;
    this.#parts = [Buffer.from(first)];
    this.#sizeBytes = first.length;
  }

  /** @throws ConnectionFault when the block becomes too large or is cut too small. */
  add(part: Buffer): void {
    this.#parts.push(Buffer.from(part));
    this.#sizeBytes += part.length;
    if (this.#sizeBytes > headerBlockBytesMax || this.#parts.length > headerBlockFramesMax) {
      throw new ConnectionFault(ErrorCode.EnhanceYourCalm, "header block is too large");
    }
  }

  join(): Buffer {
    return Buffer.concat(this.#parts, this.#sizeBytes);
  }
}
