import { blockBytes } from "#tar/tar-format.ts";

/** A header as some program has written it, field by field; nothing is checked. Text is bytes in characters. */
export interface RawMember {
  readonly name: string;
  /** `0` unless given. */
  readonly type?: string;
  readonly linkName?: string;
  /** A number is written in octal digits with a NUL after them; text as it stands. */
  readonly mode?: number | string;
  readonly user?: number | string;
  readonly group?: number | string;
  /** That of the data unless given. */
  readonly size?: number | string;
  readonly modified?: number | string;
  readonly major?: number | string;
  readonly minor?: number | string;
  /** The format by its magic; `ustar` unless given. */
  readonly magic?: keyof typeof magics;
  readonly prefix?: string;
  /** Further bytes by their offset, written before the sum. */
  readonly patches?: Readonly<Record<number, string>>;
  /** `unsigned` unless given; text stands as it is. */
  readonly sum?: "unsigned" | "signed" | `text:${string}`;
  readonly data?: string | Buffer;
}

/** What stands at offset 257. @source POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format"; star(5) */
const magics = { v7: "", ustar: "ustar\x0000", gnu: "ustar  \0", star: "ustar\x0000" };

/** Encodes one member with its data, padded to whole blocks. */
export function rawMember(member: RawMember): Buffer {
  const { data = "", magic = "ustar" } = member;
  const content = typeof data === "string" ? Buffer.from(data, "latin1") : data;
  const header = Buffer.alloc(blockBytes);
  const put = (text: string, offset: number, length: number): void => {
    header.write(text.slice(0, length), offset, "latin1");
  };
  const number = (value: number | string, offset: number, length: number): void => {
    put(typeof value === "string" ? value : value.toString(8).padStart(length - 1, "0"), offset, length);
  };
  put(member.name, 0, 100);
  number(member.mode ?? 0o644, 100, 8);
  number(member.user ?? 0, 108, 8);
  number(member.group ?? 0, 116, 8);
  number(member.size ?? content.length, 124, 12);
  number(member.modified ?? 1_000_000_000, 136, 12);
  put(member.type ?? "0", 156, 1);
  put(member.linkName ?? "", 157, 100);
  put(magics[magic], 257, 8);
  if (magic !== "v7") {
    number(member.major ?? 0, 329, 8);
    number(member.minor ?? 0, 337, 8);
    put(member.prefix ?? "", 345, 155);
  }
  if (magic === "star") {
    put("tar\0", 508, 4);
  }
  for (const [offset, text] of Object.entries(member.patches ?? {})) {
    put(text, Number(offset), text.length);
  }
  sealHeader(header, member.sum);
  return Buffer.concat([header, content, Buffer.alloc((blockBytes - (content.length % blockBytes)) % blockBytes)]);
}

/** Writes the sum of a header block into it. */
export function sealHeader(header: Buffer, sum: NonNullable<RawMember["sum"]> = "unsigned"): void {
  header.fill(" ", 148, 156);
  const bytes: Iterable<number> = sum === "signed" ? new Int8Array(header) : header;
  let total = 0;
  for (const byte of bytes) {
    total += byte;
  }
  const text = sum.startsWith("text:")
    ? sum.slice("text:".length)
    : `${Math.abs(total).toString(8).padStart(6, "0")}\0 `;
  header.write(text.replaceAll("SUM", Math.abs(total).toString(8)), 148, "latin1");
}

/** A pax header with records. */
export function paxHeader(records: readonly (readonly [key: string, value: string])[], type = "x"): Buffer {
  return rawMember({ name: "pax_header", type, data: records.map(([key, value]) => paxRecord(key, value)).join("") });
}

/** One record with its length. */
export function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (length !== rest.length + String(length).length) {
    length = rest.length + String(length).length;
  }
  return `${length}${rest}`;
}

/** An archive of what is given, with the two blocks of zeros at the end. */
export function archiveOf(...parts: readonly (Buffer | RawMember)[]): Buffer {
  return Buffer.concat([
    ...parts.map((part) => (Buffer.isBuffer(part) ? part : rawMember(part))),
    Buffer.alloc(2 * blockBytes),
  ]);
}

/** A number in base 256 in a field of so many bytes. @source GNU tar manual, "Extensions to tar Archive Format" */
export function base256(value: bigint, length: number): string {
  const field = Buffer.alloc(length);
  let rest = BigInt.asUintN(length * 8, value);
  for (let index = length - 1; index >= 0; index -= 1) {
    field[index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  field[0] = ((field[0] ?? 0) & (value < 0n ? 0xff : 0x7f)) | 0x80;
  return field.toString("latin1");
}
