import { readlink, rm, symlink } from "node:fs/promises";
import { systemErrorCode } from "#base/errors.ts";
import { attachLoop, setLoopAutoclear } from "#linux/loop-device.ts";
import type { MountHandler } from "./handler.ts";

/**
 * Shows a file as a block device: the mount point becomes a link to the device, which stays until the mount is undone.
 *
 * @source containerd v2.3.4 core/mount/loopback_handler_linux.go
 */
export const loopHandler: MountHandler = {
  type: "loop",
  async mount(mount, mountPoint) {
    // Until the link is there the device goes with its last user, so that a crash leaves none.
    using device = await attachLoop(mount.source, { autoclear: true, readOnly: mount.options.includes("ro") });
    await symlink(device.path, mountPoint);
    try {
      setLoopAutoclear(device.path, false);
    } catch (error) {
      await rm(mountPoint, { force: true });
      throw error;
    }
    return mount;
  },
  async unmount(mountPoint) {
    let device: string;
    try {
      device = await readlink(mountPoint);
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        return;
      }
      throw error;
    }
    setLoopAutoclear(device, true);
    try {
      await rm(mountPoint, { force: true });
    } catch (error) {
      // The device must not be used for something else while the link leads to it.
      setLoopAutoclear(device, false);
      throw error;
    }
  },
};
