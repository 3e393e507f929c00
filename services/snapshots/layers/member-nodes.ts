import { FileType } from "#linux/stat.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";

/** Types of members that mknod(2) makes, with their bits of a mode. */
export const nodeTypes: ReadonlyMap<string, number> = new Map([
  [MemberType.Character, FileType.Character],
  [MemberType.Block, FileType.Block],
  [MemberType.Fifo, FileType.Fifo],
]);

/** Tells whether a member is a device. */
export function isDevice({ type }: Pick<TarMember, "type">): boolean {
  return type === MemberType.Character || type === MemberType.Block;
}

/** Tells whether the kernel has such a device. @source linux include/linux/kdev_t.h `MINORBITS` */
export function isDeviceNumber(major: number, minor: number): boolean {
  return major >= 0 && major < 2 ** 12 && minor >= 0 && minor < 2 ** 20;
}
