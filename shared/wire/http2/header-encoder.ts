import { findStaticName, type HeaderField, staticFields } from "./static-table.ts";

const fullFieldToIndex = new Map(staticFields.map(([name, value], offset) => [`${name}\n${value}`, offset + 1]));

/**
 * Encodes a header block without Huffman coding and without touching a dynamic table, so that it means the same on
 * every connection.
 *
 * @param fields - Names in lower case; values must be Latin-1.
 * @source RFC 7541 section 6
 */
export function encodeHeaderBlock(fields: readonly HeaderField[]): Buffer {
  return Buffer.concat(fields.map((field) => encodeField(field, 0x00)));
}

/**
 * Encodes one field as {@link encodeHeaderBlock} does.
 *
 * @param literalBits - Upper bits of the first octet of a literal: 0x00 for one without indexing, 0x10 for one never indexed.
 */
export function encodeField([name, value]: HeaderField, literalBits: 0x00 | 0x10): Buffer {
  const fullIndex = fullFieldToIndex.get(`${name}\n${value}`);
  if (fullIndex !== undefined) {
    return Buffer.from([0x80 | fullIndex]);
  }
  const nameIndex = findStaticName(name);
  const parts: number[] = [];
  writeInteger(parts, literalBits, 4, nameIndex ?? 0);
  const head = Buffer.from(parts);
  return Buffer.concat(
    nameIndex === undefined ? [head, encodeString(name), encodeString(value)] : [head, encodeString(value)],
  );
}

function encodeString(text: string): Buffer {
  const length: number[] = [];
  writeInteger(length, 0, 7, text.length);
  return Buffer.concat([Buffer.from(length), Buffer.from(text, "latin1")]);
}

/** @source RFC 7541 section 5.1 */
function writeInteger(into: number[], upperBits: number, prefixBits: number, value: number): void {
  const prefixMax = (1 << prefixBits) - 1;
  if (value < prefixMax) {
    into.push(upperBits | value);
    return;
  }
  into.push(upperBits | prefixMax);
  let rest = value - prefixMax;
  while (rest >= 0x80) {
    into.push((rest & 0x7f) | 0x80);
    rest >>= 7;
  }
  into.push(rest);
}
