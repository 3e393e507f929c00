/** A record that is kept encoded, with its name. */
export interface NamedRecord {
  readonly name: string;
  readonly message: Uint8Array;
}

/** Tag of field 1 with a length before its value, where every response of ours has its records. */
const firstFieldTag = 0x0a;
const varintBytesMax = 5;

/**
 * A message whose field 1 holds records that are encoded already: the one of a Get, or those of a List.
 *
 * @source Protocol Buffers documentation, encoding: length-delimited records, repeated fields
 */
export function encodeRecords(records: readonly Uint8Array[]): Uint8Array {
  let sizeBytes = 0;
  for (const record of records) {
    sizeBytes += 1 + varintBytesMax + record.byteLength;
  }
  const bytes = Buffer.allocUnsafe(sizeBytes);
  let end = 0;
  for (const record of records) {
    bytes[end++] = firstFieldTag;
    let rest = record.byteLength;
    for (; rest > 0x7f; rest >>>= 7) {
      bytes[end++] = (rest & 0x7f) | 0x80;
    }
    bytes[end++] = rest;
    bytes.set(record, end);
    end += record.byteLength;
  }
  return bytes.subarray(0, end);
}
