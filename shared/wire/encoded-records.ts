/** Number of the field in which our lists have their records. */
const listField = 1;
/** Wire type of a value that comes behind its length. @source Protocol Buffers documentation, encoding */
const lengthDelimited = 2;
const varintBytesMax = 5;

/**
 * A message whose one field holds records that are encoded already: the record of a Get, or those of a List. What holds other fields as well is this behind the rest
 * of its bytes.
 *
 * @param field - Number of the field, below 16.
 * @source Protocol Buffers documentation, encoding: length-delimited records, repeated fields
 */
export function encodeRecords(records: readonly Uint8Array[], field = listField): Uint8Array {
  const tag = (field << 3) | lengthDelimited;
  let sizeBytes = 0;
  for (const record of records) {
    sizeBytes += 1 + varintBytesMax + record.byteLength;
  }
  const bytes = Buffer.allocUnsafe(sizeBytes);
  let end = 0;
  for (const record of records) {
    bytes[end++] = tag;
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
