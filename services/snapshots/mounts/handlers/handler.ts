import type { Mount } from "#linux/mount.ts";

/**
 * Carries out mounts of a type that mount(2) alone does not know.
 *
 * @source containerd v2.3.4 core/mount/manager.go `Handler`
 */
export interface MountHandler {
  /** Type of the mounts that it takes. */
  readonly type: string;
  /**
   * Mounts.
   *
   * @param mountPoint - Path that does not exist yet, in a directory that only root may enter. After a failure nothing is mounted there.
   * @returns The mount as it was carried out.
   */
  mount(mount: Mount, mountPoint: string): Promise<Mount>;
  /** Undoes it. What is not mounted is no error. */
  unmount(mountPoint: string): Promise<void>;
}
