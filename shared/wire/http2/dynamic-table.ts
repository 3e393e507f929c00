import { defaultHeaderTableBytes } from "./protocol.ts";
import type { HeaderField } from "./static-table.ts";

/** What an entry counts beyond its octets. @source RFC 7541 section 4.1 */
const entryOverheadBytes = 32;

/** The fields that a peer's header blocks have put into the table of the connection; index 0 is the newest. */
export class DynamicTable {
  readonly #oldestFirst: HeaderField[] = [];
  #sizeBytes = 0;
  #sizeBytesMax = defaultHeaderTableBytes;
  /** Counts what changed the table: an index means the same as long as this stays. */
  changes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  find(index: number): HeaderField | undefined {
    return this.#oldestFirst[this.#oldestFirst.length - 1 - index];
  }

  /** Adds a field; one larger than the whole table empties it. @source RFC 7541 section 4.4 */
  insert(field: HeaderField): void {
    const fieldBytes = sizeOfField(field[0].length, field[1].length);
    this.changes += 1;
    this.#evictDownTo(this.#sizeBytesMax - fieldBytes);
    if (fieldBytes <= this.#sizeBytesMax) {
      this.#oldestFirst.push(field);
      this.#sizeBytes += fieldBytes;
    }
  }

  resize(sizeBytesMax: number): void {
    this.changes += 1;
    this.#sizeBytesMax = sizeBytesMax;
    this.#evictDownTo(sizeBytesMax);
  }

  #evictDownTo(sizeBytes: number): void {
    while (this.#sizeBytes > sizeBytes) {
      const evicted = this.#oldestFirst.shift();
      if (evicted === undefined) {
        return;
      }
      this.#sizeBytes -= sizeOfField(evicted[0].length, evicted[1].length);
    }
  }
}

/** What a field counts in a table and in a header list. Names and values are Latin-1, so characters are octets. */
export function sizeOfField(nameBytes: number, valueBytes: number): number {
  return nameBytes + valueBytes + entryOverheadBytes;
}
