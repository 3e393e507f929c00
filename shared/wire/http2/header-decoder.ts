import { DynamicTable, sizeOfField } from "./dynamic-table.ts";
import { decodeHuffman, measureHuffman } from "./huffman.ts";
import { ConnectionFault, defaultHeaderTableBytes, ErrorCode } from "./protocol.ts";
import { type HeaderField, staticFields } from "./static-table.ts";

/** How a block represents a field. @source RFC 7541 section 6 */
export const FieldForm = {
  /** A whole field of the static table. */
  Static: 0,
  /** A whole field of the dynamic table. */
  Dynamic: 1,
  /** A literal that the decoder adds to its dynamic table. */
  Inserted: 2,
  /** A literal. */
  Literal: 3,
  /** A literal that no hop may add to a table. */
  NeverIndexed: 4,
} as const;

export type FieldForm = (typeof FieldForm)[keyof typeof FieldForm];

/** Longer integers are attacks; nothing in a block of 64 KiB needs more. */
const integerBitsMax = 28;

/**
 * Reads the header blocks of one connection in their order, field by field, and keeps the dynamic table that they share.
 *
 * `begin` takes a block, each `next` steps to a field, and the getters tell about it. A block must be read to its end,
 * whatever becomes of its stream, or the table is lost. Every string is checked; only those asked for are decoded.
 *
 * @throws ConnectionFault with COMPRESSION_ERROR from `begin` and `next` when the block is malformed.
 * @source RFC 7541
 */
export class HeaderDecoder {
  readonly #table = new DynamicTable();
  #tableBytesMax = defaultHeaderTableBytes;
  #block: Buffer = Buffer.alloc(0);
  #end = 0;
  /** Where the next field begins; after `begin`, behind the table size updates that may open a block. */
  at = 0;
  /** Where the current field begins. */
  fieldStart = 0;
  form: FieldForm = FieldForm.Static;
  /** Index of the field or of its name in the static table, or 0. */
  staticIndex = 0;
  /** Size of the fields so far, as SETTINGS_MAX_HEADER_LIST_SIZE counts it. */
  listBytes = 0;

  #tableField: HeaderField | undefined;
  readonly #name = new StringRange();
  readonly #value = new StringRange();

  /** Forbids larger tables than this, once the peer has acknowledged the setting. */
  limitTable(tableBytesMax: number): void {
    this.#tableBytesMax = tableBytesMax;
  }

  /** Counts the changes of the dynamic table: a block means the same as long as this stays. */
  get tableChanges(): number {
    return this.#table.changes;
  }

  /** Bytes that the dynamic table holds now. */
  get tableBytes(): number {
    return this.#table.sizeBytes;
  }

  begin(block: Buffer, start: number, end: number): void {
    this.#block = block;
    this.#end = end;
    this.at = start;
    this.listBytes = 0;
    while (this.at < end && ((block[this.at] as number) & 0xe0) === 0x20) {
      const sizeBytes = this.#readInteger(5);
      if (sizeBytes > this.#tableBytesMax) {
        throw malformed("a table size update exceeds the setting");
      }
      this.#table.resize(sizeBytes);
    }
  }

  next(): boolean {
    if (this.at >= this.#end) {
      return false;
    }
    this.fieldStart = this.at;
    const first = this.#block[this.at] as number;
    if ((first & 0x80) !== 0) {
      this.#readIndexed(this.#readInteger(7));
    } else if ((first & 0x40) !== 0) {
      this.#readLiteral(FieldForm.Inserted, this.#readInteger(6));
      this.#table.insert([this.name, this.value]);
    } else if ((first & 0x20) !== 0) {
      throw malformed("a table size update stands behind a field");
    } else {
      const form = (first & 0x10) === 0 ? FieldForm.Literal : FieldForm.NeverIndexed;
      this.#readLiteral(form, this.#readInteger(4));
    }
    return true;
  }

  get nameBytes(): number {
    return this.#tableField === undefined ? this.#name.lengthBytes : this.#tableField[0].length;
  }

  get name(): string {
    return this.#tableField === undefined ? this.#name.read(this.#block) : this.#tableField[0];
  }

  get value(): string {
    return this.form <= FieldForm.Dynamic && this.#tableField !== undefined
      ? this.#tableField[1]
      : this.#value.read(this.#block);
  }

  #readIndexed(index: number): void {
    const field = this.#fieldAt(index);
    this.form = index <= staticFields.length ? FieldForm.Static : FieldForm.Dynamic;
    this.#tableField = field;
    this.listBytes += sizeOfField(field[0].length, field[1].length);
  }

  #readLiteral(form: FieldForm, index: number): void {
    this.form = form;
    this.staticIndex = 0;
    this.#tableField = index === 0 ? undefined : this.#fieldAt(index);
    if (index === 0) {
      this.#readString(this.#name);
    }
    this.#readString(this.#value);
    this.listBytes += sizeOfField(this.nameBytes, this.#value.lengthBytes);
  }

  /** Tells whether the current field can't be read without the dynamic table, or changes it. */
  get needsTable(): boolean {
    return (
      this.form === FieldForm.Dynamic ||
      this.form === FieldForm.Inserted ||
      (this.#tableField !== undefined && this.staticIndex === 0)
    );
  }

  #fieldAt(index: number): HeaderField {
    this.staticIndex = index <= staticFields.length ? index : 0;
    const field = this.staticIndex === 0 ? this.#table.find(index - staticFields.length - 1) : staticFields[index - 1];
    if (field === undefined) {
      throw malformed(`index ${index} is in no table`);
    }
    return field;
  }

  #readString(range: StringRange): void {
    if (this.at >= this.#end) {
      throw malformed("a string is missing");
    }
    range.isHuffman = ((this.#block[this.at] as number) & 0x80) !== 0;
    const codedBytes = this.#readInteger(7);
    range.start = this.at;
    range.end = this.at + codedBytes;
    if (range.end > this.#end) {
      throw malformed("a string is longer than its block");
    }
    range.lengthBytes = range.isHuffman ? measureHuffman(this.#block, range.start, range.end) : codedBytes;
    if (range.lengthBytes < 0) {
      throw malformed("a string is not coded as it says");
    }
    this.at = range.end;
  }

  /** @source RFC 7541 section 5.1 */
  #readInteger(prefixBits: number): number {
    const prefixMax = (1 << prefixBits) - 1;
    let value = (this.#block[this.at++] as number) & prefixMax;
    if (value < prefixMax) {
      return value;
    }
    for (let shift = 0; shift < integerBitsMax; shift += 7) {
      if (this.at >= this.#end) {
        throw malformed("an integer is cut off");
      }
      const octet = this.#block[this.at++] as number;
      value += (octet & 0x7f) << shift;
      if ((octet & 0x80) === 0) {
        return value;
      }
    }
    throw malformed("an integer is too long");
  }
}

class StringRange {
  start = 0;
  end = 0;
  isHuffman = false;
  /** Length once decoded. */
  lengthBytes = 0;

  read(block: Buffer): string {
    return this.isHuffman ? decodeHuffman(block, this.start, this.end) : block.toString("latin1", this.start, this.end);
  }
}

function malformed(what: string): ConnectionFault {
  return new ConnectionFault(ErrorCode.CompressionError, `malformed header block: ${what}`);
}
