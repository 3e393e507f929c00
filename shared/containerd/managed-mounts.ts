/** Prefixes of a mount's type that ask the mount manager to change it first. @source containerd v2.3.4 core/mount/manager/manager.go `Activate` */
export const mountTransformations: readonly string[] = ["format", "mkfs", "mkdir"];

/** Types of mounts that the mount manager carries out itself, since mount(2) alone cannot everywhere. */
export const handledMountTypes: readonly string[] = ["erofs", "loop"];

/**
 * Tells whether a list has a mount that the mount manager may have to carry out. Who knows that there is none need not ask it.
 *
 * @param types - The types of the mounts, such as `format/overlay`.
 */
export function needsMountManager(types: readonly string[]): boolean {
  return types.some((type) => {
    const parts = type.split("/");
    return mountTransformations.includes(parts[0] ?? "") || handledMountTypes.includes(type);
  });
}
