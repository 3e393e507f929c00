import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { asByteString, type ByteString } from "#linux/bytes.ts";
import type { FileTime } from "#linux/inode.ts";
import { blockBytes } from "./tar-format.ts";

/** The error for an archive that breaks the format. @source Go archive/tar common.go `ErrHeader` */
export function invalidHeader(): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, "archive/tar: invalid tar header");
}

/** What the fixed fields of a header block say, before pax records and GNU long names change it. */
export interface RawHeader {
  name: ByteString;
  type: string;
  linkName: ByteString;
  mode: number;
  user: number;
  group: number;
  sizeBytes: number;
  modified: FileTime;
  accessed: FileTime | undefined;
  deviceMajor: number;
  deviceMinor: number;
}

const checksumOffset = 148;
const checksumBytes = 8;

/**
 * Reads a header block that is not all zeros.
 *
 * @param block - Holds the block from `offset` on.
 * @throws {@link FlotillaError} when the checksum, signed or unsigned, or a number is wrong.
 * @source Go archive/tar reader.go `(*Reader).readHeader`; POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format"
 */
export function parseHeader(block: Buffer, offset: number): RawHeader {
  checkSum(block, offset);
  const header: RawHeader = {
    name: parseText(block, offset, 100),
    type: String.fromCharCode(block[offset + 156] ?? 0),
    linkName: parseText(block, offset + 157, 100),
    mode: parseNumber(block, offset + 100, 8),
    user: parseNumber(block, offset + 108, 8),
    group: parseNumber(block, offset + 116, 8),
    sizeBytes: parseNumber(block, offset + 124, 12),
    modified: { seconds: parseNumber(block, offset + 136, 12), nanoseconds: 0 },
    accessed: undefined,
    deviceMajor: 0,
    deviceMinor: 0,
  };
  const magic = block.toString("latin1", offset + 257, offset + 265);
  if (magic.startsWith("ustar\0") || magic === "ustar  \0") {
    header.deviceMajor = parseNumber(block, offset + 329, 8);
    header.deviceMinor = parseNumber(block, offset + 337, 8);
    addVariantFields(header, block, offset, magic);
  }
  return header;
}

function addVariantFields(header: RawHeader, block: Buffer, offset: number, magic: string): void {
  let prefix = asByteString("");
  if (magic === "ustar  \0") {
    const accessed = findGnuAccessTime(block, offset);
    header.accessed = accessed === "no time" ? undefined : accessed;
    prefix = accessed === "no time" ? asciiPrefix(block, offset) : prefix;
  } else if (block.toString("latin1", offset + 508, offset + 512) === "tar\0") {
    prefix = parseText(block, offset + 345, 131);
    header.accessed = { seconds: parseNumber(block, offset + 476, 12), nanoseconds: 0 };
  } else {
    prefix = parseText(block, offset + 345, 155);
  }
  if (prefix !== "") {
    header.name = asByteString(`${prefix}/${header.name}`);
  }
}

/** The time of the last access, if the header has one. That of the last change comes after it and has to be a time as well. */
function findGnuAccessTime(block: Buffer, offset: number): FileTime | "no time" | undefined {
  try {
    const accessed = findTime(block, offset + 345);
    findTime(block, offset + 357);
    return accessed;
  } catch {
    return "no time";
  }
}

function findTime(block: Buffer, start: number): FileTime | undefined {
  return block[start] === 0 ? undefined : { seconds: parseNumber(block, start, 12), nanoseconds: 0 };
}

/** Old Go programs wrote the prefix of a name in the place of the times, and names in ASCII alone. */
function asciiPrefix(block: Buffer, offset: number): ByteString {
  const prefix = parseText(block, offset + 345, 155);
  return /[\x80-\xff]/.test(prefix) ? asByteString("") : prefix;
}

function checkSum(block: Buffer, offset: number): void {
  let unsigned = 32 * checksumBytes;
  let negatives = 0;
  for (let index = offset; index < offset + blockBytes; index += 1) {
    const value = block[index] ?? 0;
    unsigned += value;
    negatives += value >> 7;
  }
  for (let index = offset + checksumOffset; index < offset + checksumOffset + checksumBytes; index += 1) {
    const value = block[index] ?? 0;
    unsigned -= value;
    negatives -= value >> 7;
  }
  const written = parseOctal(block, offset + checksumOffset, checksumBytes);
  // Some old programs summed signed bytes.
  if (written !== unsigned && written !== unsigned - 256 * negatives) {
    throw invalidHeader();
  }
}

/** Text up to the first NUL or the end of the field. */
export function parseText(block: Buffer, start: number, length: number): ByteString {
  const end = block.indexOf(0, start);
  return asByteString(block.toString("latin1", start, end === -1 ? start + length : Math.min(end, start + length)));
}

/**
 * A number in octal digits or, with the first bit set, as a big-endian two's complement number. It may be negative.
 * Above 2^53 the last digits are not exact; nothing that large can be read or stored.
 */
function parseNumber(block: Buffer, start: number, length: number): number {
  const first = block[start] ?? 0;
  return (first & 0x80) === 0 ? parseOctal(block, start, length) : parseBinary(block, start, length);
}

const signedBits = 63;

function parseBinary(block: Buffer, start: number, length: number): number {
  const isNegative = ((block[start] ?? 0) & 0x40) !== 0;
  const inversion = isNegative ? 0xff : 0;
  let value = ((block[start] ?? 0) ^ inversion) & 0x7f;
  for (let index = start + 1; index < start + length; index += 1) {
    value = value * 256 + ((block[index] ?? 0) ^ inversion);
  }
  if (value >= 2 ** signedBits) {
    throw invalidHeader();
  }
  return isNegative ? -value - 1 : value;
}

function parseOctal(block: Buffer, start: number, length: number): number {
  let end = start + length;
  let index = start;
  while (index < end && isPadding(block[index])) {
    index += 1;
  }
  while (end > index && isPadding(block[end - 1])) {
    end -= 1;
  }
  let value = 0;
  for (; index < end; index += 1) {
    const digit = (block[index] ?? 0) - 0x30;
    if (digit === -0x30) {
      break;
    }
    if (digit < 0 || digit > 7) {
      throw invalidHeader();
    }
    value = value * 8 + digit;
  }
  return value;
}

function isPadding(value: number | undefined): boolean {
  return value === 0 || value === 0x20;
}
