import type { Mount } from "#linux/mount.ts";
import type { ActiveMount } from "../activation.ts";

/**
 * Changes a mount before it is carried out, or makes ready what it needs. Named by a prefix of the mount's type, `mkfs/ext4`.
 *
 * @param active - What has been mounted before it.
 * @source containerd v2.3.4 core/mount/manager.go `Transformer`
 */
export type Transformer = (mount: Mount, active: readonly ActiveMount[]) => Promise<Mount> | Mount;
