import type { HeaderDecoder } from "./header-decoder.ts";
import { FieldForm } from "./header-decoder.ts";
import { encodeField } from "./header-encoder.ts";
import { headerListBytesMax } from "./limits.ts";
import { findStaticName } from "./static-table.ts";

const pathName = ":path";
const contentTypeName = "content-type";
const pathIndexes = [4, 5] as const;
const contentTypeIndex = findStaticName(contentTypeName);

/**
 * What is known of a header block after reading it once: which bytes of it, or instead of it, mean the same on
 * every connection, and where the request goes.
 *
 * One object serves for all blocks of a connection; each reading overwrites the last.
 */
export class HeaderBlock {
  readonly #isRequest: boolean;
  /** The bytes to forward stand here: the buffer that was read, or a new one where the block needed the table. */
  buffer: Buffer = Buffer.alloc(0);
  start = 0;
  end = 0;
  /** Whether exactly the bytes that were read may be forwarded, so that the frames around them can be forwarded too. */
  isVerbatim = false;
  isTooLarge = false;
  /** Of a request; "" when there is none. */
  path = "";
  /** Of a request; "" when there is none. */
  contentType = "";

  constructor(kind: "request" | "response") {
    this.#isRequest = kind === "request";
  }

  /**
   * Reads a block to its end.
   *
   * @throws ConnectionFault when the block is malformed.
   */
  read(decoder: HeaderDecoder, block: Buffer, start: number, end: number): void {
    decoder.begin(block, start, end);
    this.path = "";
    this.contentType = "";
    this.buffer = block;
    this.start = decoder.at;
    this.end = end;
    let rewritten: Buffer[] | undefined;
    while (decoder.next()) {
      if (decoder.listBytes > headerListBytesMax) {
        continue;
      }
      if (decoder.needsTable) {
        rewritten ??= [block.subarray(this.start, decoder.fieldStart)];
        rewritten.push(
          encodeField([decoder.name, decoder.value], decoder.form === FieldForm.NeverIndexed ? 0x10 : 0x00),
        );
      } else {
        rewritten?.push(block.subarray(decoder.fieldStart, decoder.at));
      }
      if (this.#isRequest) {
        this.#notice(decoder);
      }
    }
    this.isTooLarge = decoder.listBytes > headerListBytesMax;
    this.isVerbatim = rewritten === undefined && this.start === start;
    if (rewritten !== undefined) {
      this.buffer = Buffer.concat(rewritten);
      this.start = 0;
      this.end = this.buffer.length;
    }
  }

  #notice(decoder: HeaderDecoder): void {
    if (decoder.staticIndex !== 0) {
      if (decoder.staticIndex === pathIndexes[0] || decoder.staticIndex === pathIndexes[1]) {
        this.path = decoder.value;
      } else if (decoder.staticIndex === contentTypeIndex) {
        this.contentType = decoder.value;
      }
    } else if (decoder.nameBytes === pathName.length && decoder.name === pathName) {
      this.path = decoder.value;
    } else if (decoder.nameBytes === contentTypeName.length && decoder.name === contentTypeName) {
      this.contentType = decoder.value;
    }
  }
}
