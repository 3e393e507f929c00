import { MemberType } from "#tar/tar-format.ts";
import type { Member } from "../layer-rig.ts";

/** A layer of the corpus. */
export interface CorpusLayer {
  /** Unique in the corpus. */
  readonly name: string;
  /** What is there already when the layer comes. */
  readonly below?: Buffer;
  readonly layer: Buffer;
  /** Why GNU tar is no measure for it though it reads it without complaint. */
  readonly notAsTar?: string;
  /** Why containerd is none. */
  readonly notAsContainerd?: string;
  /** Why containerd is none where the layer goes into the upper directory of an overlay. */
  readonly overlayNotAsContainerd?: string;
}

/** The reason where a whiteout names what its own layer has brought. */
export const ownLayer =
  "whiteouts are about lower layers alone; containerd removes what their own layer has brought, or fails";

/** A directory. */
export const directory = (name: string, rest: Partial<Member> = {}): Member => ({
  mode: 0o755,
  ...rest,
  name: `${name}/`,
});
/** A file. */
export const file = (name: string, data = "", rest: Partial<Member> = {}): Member => ({ ...rest, name, data });
/** A symbolic link. */
export const symlink = (name: string, linkName: string, rest: Partial<Member> = {}): Member => ({
  mode: 0o777,
  ...rest,
  name,
  linkName,
  type: MemberType.Symlink,
});
/** A hard link. */
export const hardLink = (name: string, linkName: string, rest: Partial<Member> = {}): Member => ({
  ...rest,
  name,
  linkName,
  type: MemberType.HardLink,
});
/** A named pipe. */
export const pipe = (name: string, rest: Partial<Member> = {}): Member => ({ ...rest, name, type: MemberType.Fifo });
/** A device. */
export const device = (name: string, rest: Partial<Member> = {}): Member => ({
  type: MemberType.Character,
  deviceMajor: 1,
  deviceMinor: 3,
  ...rest,
  name,
});
