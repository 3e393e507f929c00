import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { asByteString, type ByteString } from "#linux/bytes.ts";
import { attributePrefix, blockBytes, MemberType, specialBytesMax, type TarMember } from "./tar-format.ts";

const nameBytes = 100;
const prefixBytes = 155;

/**
 * Encodes a member: its header block, with a pax header before it if the plain one cannot say everything. Times are written in
 * whole seconds unless they do not fit.
 *
 * The bytes are those that Go's library writes for the same member, so that a layer has the same digest whoever makes it.
 *
 * @throws {@link FlotillaError} for a device number that no header can hold, and attributes of more than 1 MiB.
 * @source Go archive/tar writer.go `(*Writer).WriteHeader`, common.go `Header.allowedFormats`
 */
export function encodeMember(member: TarMember): Buffer {
  const records = paxRecordsOf(member);
  const split = splitName(member.name);
  if (split !== undefined && onlyNameIn(records)) {
    const header = encodeHeader({ ...member, name: split.name });
    header.write(split.prefix, 345, prefixBytes, "latin1");
    return seal(header);
  }
  const header = seal(encodeHeader(member));
  return records.size === 0 ? header : Buffer.concat([encodePaxHeader(member.name, records), header]);
}

/** The blocks that end an archive. */
export const archiveEnd = Buffer.alloc(2 * blockBytes);

/** Zeros that fill up content to a whole block. */
export function paddingOf(sizeBytes: number): Buffer {
  return archiveEnd.subarray(0, (blockBytes - (sizeBytes % blockBytes)) % blockBytes);
}

/** What does not fit into the fields of a header, by the keys of pax records. */
function paxRecordsOf(member: TarMember): Map<string, string> {
  const records = new Map<string, string>();
  for (const [key, text] of [
    ["path", member.name],
    ["linkpath", member.linkName],
  ] as const) {
    if (text.length > nameBytes || !isAscii(text)) {
      records.set(key, text);
    }
  }
  for (const [key, value, digits] of [
    ["uid", member.user, 7],
    ["gid", member.group, 7],
    ["size", member.sizeBytes, 11],
    ["mtime", member.modified.seconds, 11],
  ] as const) {
    if (!fitsOctal(value, digits)) {
      records.set(key, String(value));
    }
  }
  for (const [key, value] of member.attributes) {
    records.set(`${attributePrefix}${key}`, value.toString("latin1"));
  }
  return records;
}

function onlyNameIn(records: ReadonlyMap<string, string>): boolean {
  return records.size === 1 && records.has("path");
}

/** Splits a long name in two at a slash, if it has one in the right place. @source Go archive/tar writer.go `splitUSTARPath` */
function splitName(name: ByteString): { readonly prefix: ByteString; readonly name: ByteString } | undefined {
  if (name.length <= nameBytes || !isAscii(name)) {
    return undefined;
  }
  const end = name.length > prefixBytes + 1 ? prefixBytes + 1 : name.length - (name.endsWith("/") ? 1 : 0);
  const slash = name.lastIndexOf("/", end - 1);
  const rest = name.length - slash - 1;
  return slash <= 0 || rest === 0 || rest > nameBytes || slash > prefixBytes
    ? undefined
    : { prefix: asByteString(name.slice(0, slash)), name: asByteString(name.slice(slash + 1)) };
}

function encodePaxHeader(name: ByteString, records: ReadonlyMap<string, string>): Buffer {
  const body = [...records]
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([key, value]) => encodeRecord(key, value))
    .join("");
  if (body.length > specialBytesMax) {
    throw new FlotillaError(ErrorKind.Unknown, "archive/tar: header field too long");
  }
  const slash = name.lastIndexOf("/");
  const shown = toAscii(`${name.slice(0, slash + 1)}PaxHeaders.0/${name.slice(slash + 1)}`);
  const header = Buffer.alloc(blockBytes);
  header.write(shown.slice(0, nameBytes).replace(/\/+$/, ""), 0, "latin1");
  writeOctal(header, 0, 100, 8);
  writeOctal(header, 0, 108, 8);
  writeOctal(header, 0, 116, 8);
  writeOctal(header, body.length, 124, 12);
  writeOctal(header, 0, 136, 12);
  header.write(MemberType.PaxHeader, 156, "latin1");
  return Buffer.concat([seal(header), Buffer.from(body, "latin1"), paddingOf(body.length)]);
}

/** A record starts with its own length, which counts itself. */
function encodeRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (length !== rest.length + String(length).length) {
    length = rest.length + String(length).length;
  }
  return `${length}${rest}`;
}

function encodeHeader(member: TarMember): Buffer {
  const header = Buffer.alloc(blockBytes);
  writeName(header, member.name, 0);
  writeName(header, member.linkName, 157);
  writeOctal(header, member.mode, 100, 8);
  writeOctal(header, member.user, 108, 8);
  writeOctal(header, member.group, 116, 8);
  writeOctal(header, member.sizeBytes, 124, 12);
  writeOctal(header, member.modified.seconds, 136, 12);
  header.write(member.type, 156, "latin1");
  for (const device of [member.deviceMajor, member.deviceMinor]) {
    if (!fitsOctal(device, 7)) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `archive/tar: cannot encode header: PAX cannot encode device ${device}`,
      );
    }
  }
  writeOctal(header, member.deviceMajor, 329, 8);
  writeOctal(header, member.deviceMinor, 337, 8);
  return header;
}

/** Writes as much of a name as fits. A directory's must not seem to end in a slash where it is cut. */
function writeName(header: Buffer, text: ByteString, offset: number): void {
  const ascii = toAscii(text);
  const cut = ascii.slice(0, nameBytes);
  header.write(ascii.length > nameBytes && cut.endsWith("/") ? cut.replace(/\/+$/, "") : cut, offset, "latin1");
}

/** Writes digits and a final NUL; zero when the number does not fit, which a pax record then tells. */
function writeOctal(header: Buffer, value: number, offset: number, length: number): void {
  const shown = fitsOctal(value, length - 1) ? value : 0;
  header.write(shown.toString(8).padStart(length - 1, "0"), offset, "latin1");
}

function fitsOctal(value: number, digits: number): boolean {
  return value >= 0 && value < 8 ** digits;
}

/** Adds the magic and the checksum. */
function seal(header: Buffer): Buffer {
  header.write("ustar\x0000", 257, "latin1");
  header.fill(" ", 148, 156);
  let sum = 0;
  for (const value of header) {
    sum += value;
  }
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

function isAscii(text: string): boolean {
  return /^[\0-\x7f]*$/.test(text);
}

function toAscii(text: string): ByteString {
  return asByteString(text.replace(/[^\0-\x7f]/g, ""));
}
