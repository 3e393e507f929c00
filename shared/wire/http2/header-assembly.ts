import { headerBlockBytesMax, headerBlockFramesMax } from "./limits.ts";
import { ConnectionFault, ErrorCode } from "./protocol.ts";

/** What the first frame of a header block says. */
export interface AssemblyHead {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly dependsOnItself: boolean;
}

/** A header block that arrives in several frames. */
export class HeaderAssembly {
  readonly head: AssemblyHead;
  readonly #parts: Buffer[];
  #sizeBytes: number;

  constructor(head: AssemblyHead, first: Buffer) {
    this.head = head;
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
