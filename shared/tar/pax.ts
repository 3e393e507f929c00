import { asByteString, type ByteString } from "#linux/bytes.ts";
import type { FileTime } from "#linux/inode.ts";
import { attributePrefix } from "./tar-format.ts";
import { invalidHeader, type RawHeader } from "./tar-header.ts";

/** Keys of a pax header to their values, both as bytes; of two records with one key the later one. */
export type PaxRecords = ReadonlyMap<string, ByteString>;

const sparseOffsetKey = "GNU.sparse.offset";
const sparseLengthKey = "GNU.sparse.numbytes";
/** The key under which the sparse map of format 0.1 stands, and under which that of 0.0 is collected. */
export const sparseMapKey = "GNU.sparse.map";

const textKeys = new Set(["path", "linkpath", "uname", "gname"]);

/**
 * Parses the body of a pax header: records of the form `length key=value\n`.
 *
 * @throws {@link FlotillaError} when it is not made of such records to its last byte.
 * @source Go archive/tar strconv.go `parsePAXRecord`, reader.go `parsePAX`
 */
export function parsePaxRecords(body: Buffer): PaxRecords {
  const records = new Map<string, ByteString>();
  const sparseMap: string[] = [];
  let start = 0;
  while (start < body.length) {
    const space = body.indexOf(0x20, start);
    const digits = space === -1 ? "" : body.toString("latin1", start, space);
    const end = start + Number(digits);
    if (!/^\+?\d{1,20}$/.test(digits) || end > body.length || end <= space + 1 || body[end - 1] !== 0x0a) {
      throw invalidHeader();
    }
    const equals = body.indexOf(0x3d, space + 1);
    if (equals === -1 || equals >= end - 1 || equals === space + 1) {
      throw invalidHeader();
    }
    const key = body.toString("latin1", space + 1, equals);
    const value = body.toString("latin1", equals + 1, end - 1);
    if (key.includes("\0") || (textKeys.has(key) && value.includes("\0"))) {
      throw invalidHeader();
    }
    if (key === sparseOffsetKey || key === sparseLengthKey) {
      addSparseNumber(sparseMap, key, value);
    } else {
      records.set(key, asByteString(value));
    }
    start = end;
  }
  if (sparseMap.length > 0) {
    records.set(sparseMapKey, asByteString(sparseMap.join(",")));
  }
  return records;
}

/** Format 0.0 repeats two keys in turn; together they make the map of format 0.1. */
function addSparseNumber(sparseMap: string[], key: string, value: string): void {
  const expected = sparseMap.length % 2 === 0 ? sparseOffsetKey : sparseLengthKey;
  if (key !== expected || value.includes(",")) {
    throw invalidHeader();
  }
  sparseMap.push(value);
}

/**
 * Puts pax records in the place of the fields that they replace. An empty value leaves the field as it is.
 *
 * @throws {@link FlotillaError} for a number or time that is none.
 * @source Go archive/tar reader.go `mergePAX`
 */
export function mergePaxRecords(header: RawHeader, records: PaxRecords): void {
  for (const [key, value] of records) {
    if (value === "") {
      continue;
    }
    switch (key) {
      case "path":
        header.name = value;
        break;
      case "linkpath":
        header.linkName = value;
        break;
      case "uid":
        header.user = parseDecimal(value);
        break;
      case "gid":
        header.group = parseDecimal(value);
        break;
      case "size":
        header.sizeBytes = parseDecimal(value);
        break;
      case "mtime":
        header.modified = parsePaxTime(value);
        break;
      case "atime":
        header.accessed = parsePaxTime(value);
        break;
      case "ctime":
        // It cannot be set, but has to be a time.
        parsePaxTime(value);
        break;
      default:
        break;
    }
  }
}

/** The extended attributes among pax records, empty values included. */
export function attributesOf(records: PaxRecords): Map<ByteString, Buffer> {
  const attributes = new Map<ByteString, Buffer>();
  for (const [key, value] of records) {
    if (key.startsWith(attributePrefix)) {
      attributes.set(asByteString(key.slice(attributePrefix.length)), Buffer.from(value, "latin1"));
    }
  }
  return attributes;
}

/** @throws {@link FlotillaError} when the text is no decimal number of 64 bits. */
export function parseDecimal(text: string): number {
  const value = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(Math.abs(value) < 2 ** 63)) {
    throw invalidHeader();
  }
  return value;
}

const nanosecondDigits = 9;

/** Parses seconds with an optional fraction. A time before 1970 counts backwards, its fraction too. */
function parsePaxTime(text: string): FileTime {
  const [, sign = "", whole = "", fraction = ""] = /^([+-]?)(\d+)(?:\.(\d*))?$/.exec(text) ?? [];
  const seconds = parseDecimal(whole);
  const nanoseconds = Number(fraction.slice(0, nanosecondDigits).padEnd(nanosecondDigits, "0"));
  if (sign !== "-") {
    return { seconds, nanoseconds };
  }
  return nanoseconds === 0
    ? { seconds: -seconds, nanoseconds: 0 }
    : { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}
