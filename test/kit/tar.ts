/** What one entry of an archive is made of. Times are nanoseconds since 1970. */
export interface TarEntry {
  /** Relative path; directories without a slash at the end. */
  readonly path: string;
  readonly type: "file" | "directory" | "symlink" | "link" | "character device" | "block device" | "pipe";
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeNs?: bigint;
  /** Content of a file. */
  readonly content?: Uint8Array;
  /** Target of a symbolic or hard link. */
  readonly target?: string;
  /** Of a device. */
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: Readonly<Record<string, Uint8Array>>;
}

const blockBytes = 512;

/** @source POSIX.1-2017 pax, "ustar Interchange Format" */
const typeFlags: Record<TarEntry["type"], string> = {
  file: "0",
  link: "1",
  symlink: "2",
  "character device": "3",
  "block device": "4",
  directory: "5",
  pipe: "6",
};

/** Puts an archive in POSIX format together, the same bytes for the same entries. */
export function packTar(entries: Iterable<TarEntry>): Buffer {
  const chunks: Buffer[] = [];
  for (const entry of entries) {
    chunks.push(...packEntry(entry));
  }
  chunks.push(Buffer.alloc(2 * blockBytes));
  return Buffer.concat(chunks);
}

function packEntry(entry: TarEntry): Buffer[] {
  const { path, content = Buffer.alloc(0), target = "" } = entry;
  const name = entry.type === "directory" ? `${path}/` : path;
  const pax = paxRecords(entry, name);
  const header = packHeader({
    ...entry,
    name,
    linkName: target,
    typeFlag: typeFlags[entry.type],
    sizeBytes: content.length,
  });
  const records = Buffer.concat(pax.map(([key, value]) => packRecord(key, value)));
  const before =
    pax.length === 0
      ? []
      : [
          packHeader({
            mode: 0o644,
            name: `PaxHeaders/${name}`,
            linkName: "",
            typeFlag: "x",
            sizeBytes: records.length,
          }),
          padded(records),
        ];
  return [...before, header, ...(content.length === 0 ? [] : [padded(content)])];
}

/** What has no place in the plain header. */
function paxRecords({ mtimeNs = 0n, target = "", xattrs = {} }: TarEntry, name: string): [string, Buffer][] {
  const records: [string, Buffer][] = [];
  if (mtimeNs % 1_000_000_000n !== 0n || mtimeNs < 0n) {
    records.push(["mtime", Buffer.from(decimalSeconds(mtimeNs))]);
  }
  if (needsPax(name)) {
    records.push(["path", Buffer.from(name)]);
  }
  if (needsPax(target)) {
    records.push(["linkpath", Buffer.from(target)]);
  }
  for (const [key, value] of Object.entries(xattrs).sort(([left], [right]) => (left < right ? -1 : 1))) {
    records.push([`SCHILY.xattr.${key}`, Buffer.from(value)]);
  }
  return records;
}

function needsPax(name: string): boolean {
  return name.length > 100 || /[^\0-\x7f]/.test(name);
}

function decimalSeconds(ns: bigint): string {
  const absolute = ns < 0n ? -ns : ns;
  const fraction = (absolute % 1_000_000_000n).toString().padStart(9, "0");
  return `${ns < 0n ? "-" : ""}${absolute / 1_000_000_000n}.${fraction}`;
}

/** A record says its own length, digits of the length included. */
function packRecord(key: string, value: Buffer): Buffer {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) {
    length = rest + String(length).length;
  }
  return Buffer.concat([Buffer.from(`${length} ${key}=`), value, Buffer.from("\n")]);
}

interface Header extends Pick<TarEntry, "mode" | "uid" | "gid" | "mtimeNs" | "major" | "minor"> {
  readonly name: string;
  readonly linkName: string;
  readonly typeFlag: string;
  readonly sizeBytes: number;
}

function packHeader({
  name,
  linkName,
  typeFlag,
  sizeBytes,
  mode,
  uid = 0,
  gid = 0,
  mtimeNs = 0n,
  major = 0,
  minor = 0,
}: Header): Buffer {
  const header = Buffer.alloc(blockBytes);
  const octal = (value: number, offset: number, length: number): void => {
    header.write(value.toString(8).padStart(length - 1, "0"), offset, length - 1, "latin1");
  };
  const ascii = (text: string): string => text.replace(/[^\0-\x7f]/g, "_").slice(0, 100);
  header.write(ascii(name), 0, 100, "latin1");
  octal(mode, 100, 8);
  octal(uid, 108, 8);
  octal(gid, 116, 8);
  octal(sizeBytes, 124, 12);
  octal(mtimeNs < 0n ? 0 : Number(mtimeNs / 1_000_000_000n), 136, 12);
  header.write("        ", 148, 8, "latin1");
  header.write(typeFlag, 156, 1, "latin1");
  header.write(ascii(linkName), 157, 100, "latin1");
  header.write("ustar\x0000", 257, 8, "latin1");
  octal(major, 329, 8);
  octal(minor, 337, 8);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, 8, "latin1");
  return header;
}

function padded(content: Uint8Array): Buffer {
  const rest = content.length % blockBytes;
  return rest === 0 ? Buffer.from(content) : Buffer.concat([content, Buffer.alloc(blockBytes - rest)]);
}
