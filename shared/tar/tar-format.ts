import type { ByteString } from "#linux/bytes.ts";
import type { FileTime } from "#linux/inode.ts";

/** Size of the blocks that an archive consists of, in bytes. @source POSIX.1-2017 pax, "ustar Interchange Format" */
export const blockBytes = 512;

/** Longest pax header, GNU long name or sparse map. @source Go archive/tar format.go `maxSpecialFileSize` */
export const specialBytesMax = 1024 * 1024;

/** Kinds of members, by the character that stands for them. @source Go archive/tar common.go */
export const MemberType = {
  Regular: "0",
  /** What very old programs write for regular files, and for directories with a `/` at the end of the name. */
  RegularOld: "\0",
  HardLink: "1",
  Symlink: "2",
  Character: "3",
  Block: "4",
  Directory: "5",
  Fifo: "6",
  PaxHeader: "x",
  PaxGlobalHeader: "g",
  GnuLongName: "L",
  GnuLongLink: "K",
} as const;

/** Prefix of the pax records that carry extended attributes. @source star(1) `SCHILY.xattr` */
export const attributePrefix = "SCHILY.xattr.";

/** One member of an archive without its content. */
export interface TarMember {
  /** As the archive has it: may be absolute, hold `..`, end in `/`. Never holds a NUL. */
  readonly name: ByteString;
  /** One of {@link MemberType}, or what else the archive says. */
  readonly type: string;
  /** Target of a symbolic or hard link. */
  readonly linkName: ByteString;
  /** Permission bits, and whatever else was in the field. */
  readonly mode: number;
  readonly user: number;
  readonly group: number;
  /** Size of the content of a regular file, holes included. */
  readonly sizeBytes: number;
  readonly modified: FileTime;
  /** Time of the last access, if the archive tells it. */
  readonly accessed: FileTime | undefined;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Extended attributes in the order of the archive. */
  readonly attributes: ReadonlyMap<ByteString, Buffer>;
}

/** Kinds of members that have no content, whatever size they claim. @source Go archive/tar reader.go `isHeaderOnlyType` */
export function hasNoContent(type: string): boolean {
  return type >= MemberType.HardLink && type <= MemberType.Fifo;
}
