import { findStaticName, type HeaderField, staticFields } from "./static-table.ts";

const fullFieldToIndex = new Map(staticFields.map(([name, value], offset) => [`${name}\n${value}`, offset + 1]));

/** Upper bits of the first octet of a literal: of one without indexing, and of one that no hop may index. */
export type LiteralBits = 0x00 | 0x10;

/** Blocks are put together here and copied out, since their size is known only then. */
let scratch: Buffer = Buffer.allocUnsafe(4096);

/**
 * Encodes a header block without Huffman coding and without touching a dynamic table, so that it means the same on
 * every connection.
 *
 * @param fields - Names in lower case; values must be Latin-1.
 * @source RFC 7541 section 6
 */
export function encodeHeaderBlock(fields: readonly HeaderField[]): Buffer {
  const block = new HeaderBlockBuilder();
  for (const [name, value] of fields) {
    block.add(name, value, 0x00);
  }
  return block.build();
}

/** A header block that is put together field by field. One at a time is built. */
export class HeaderBlockBuilder {
  #at = 0;

  /** Adds a field as {@link encodeHeaderBlock} does. */
  add(name: string, value: string, literalBits: LiteralBits): void {
    this.#reserve(name.length + value.length);
    const fullIndex = fullFieldToIndex.get(`${name}\n${value}`);
    if (fullIndex !== undefined) {
      scratch[this.#at++] = 0x80 | fullIndex;
      return;
    }
    const nameIndex = findStaticName(name);
    this.#writeInteger(literalBits, 4, nameIndex ?? 0);
    if (nameIndex === undefined) {
      this.#writeString(name);
    }
    this.#writeString(value);
  }

  /** Adds fields that are encoded already. */
  addEncoded(bytes: Buffer, start: number, end: number): void {
    this.#reserve(end - start);
    this.#at += bytes.copy(scratch, this.#at, start, end);
  }

  /** The block, in memory of its own. */
  build(): Buffer {
    const block = Buffer.allocUnsafeSlow(this.#at);
    scratch.copy(block, 0, 0, this.#at);
    return block;
  }

  #reserve(textBytes: number): void {
    const neededBytes = this.#at + textBytes + 3 * integerBytesMax;
    if (neededBytes > scratch.length) {
      const larger = Buffer.allocUnsafe(2 * neededBytes);
      scratch.copy(larger, 0, 0, this.#at);
      scratch = larger;
    }
  }

  #writeString(text: string): void {
    this.#writeInteger(0, 7, text.length);
    this.#at += scratch.write(text, this.#at, "latin1");
  }

  /** @source RFC 7541 section 5.1 */
  #writeInteger(upperBits: number, prefixBits: number, value: number): void {
    const prefixMax = (1 << prefixBits) - 1;
    if (value < prefixMax) {
      scratch[this.#at++] = upperBits | value;
      return;
    }
    scratch[this.#at++] = upperBits | prefixMax;
    let rest = value - prefixMax;
    for (; rest >= 0x80; rest >>= 7) {
      scratch[this.#at++] = (rest & 0x7f) | 0x80;
    }
    scratch[this.#at++] = rest;
  }
}

const integerBytesMax = 6;
