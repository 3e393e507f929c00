/** Number and wire type of a field, as one octet. */
type Tag = number;

/**
 * Reads the fields of an encoded message one after the other, as long as they are what is nearly always sent: numbers below 16, each once and in rising
 * order, lengths below 2^28, integers from 0 to 2^53, text in ASCII. Whoever meets anything else leaves the message to the library.
 *
 * @source protobuf.dev, "Encoding"
 */
export class PlainFields {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;
  #tag: Tag = 0;
  /** Where the value of the field is, if it has a length. */
  start = 0;
  end = 0;

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /** Whether all has been read. */
  get isAtEnd(): boolean {
    return this.#at === this.#end;
  }

  /** Begins the next field. @returns its tag; 0 at the end, and where something else is found. */
  next(): Tag {
    const tag = this.#at < this.#end ? (this.#bytes[this.#at] as number) : 0;
    if (tag >= 0x80 || tag <= this.#tag) {
      return 0;
    }
    this.#at += 1;
    this.#tag = tag;
    return tag;
  }

  /** Finds the value of a field that has a length, and goes behind it. @returns whether it is there. */
  find(): boolean {
    const length = this.integer();
    if (length === undefined || length > this.#end - this.#at) {
      return false;
    }
    this.start = this.#at;
    this.end = this.#at + length;
    this.#at = this.end;
    return true;
  }

  /** The text of a field. */
  text(): string | undefined {
    if (!this.find()) {
      return undefined;
    }
    for (let at = this.start; at < this.end; at++) {
      if ((this.#bytes[at] as number) >= 0x80) {
        return undefined;
      }
    }
    return this.#bytes.toString("latin1", this.start, this.end);
  }

  /** The value of a field that is an integer. */
  integer(): number | undefined {
    let value = 0;
    for (let scale = 1; scale <= 2 ** 42 && this.#at < this.#end; scale *= 0x80) {
      const octet = this.#bytes[this.#at++] as number;
      value += (octet & 0x7f) * scale;
      if (octet < 0x80) {
        return value;
      }
    }
    return undefined;
  }
}
