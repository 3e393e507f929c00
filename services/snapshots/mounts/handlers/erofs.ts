import { mkdir, rmdir } from "node:fs/promises";
import { systemErrorCode } from "#base/errors.ts";
import { attachLoop } from "#linux/loop-device.ts";
import { type Mount, mountFileSystem } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import type { MountHandler } from "./handler.ts";

const deviceOption = "device=";

/** Whether this kernel has refused to mount an image that is a file. */
let needsDevices = false;

/**
 * Mounts EROFS images: straight from their files where the kernel can (since 6.12), through loop devices elsewhere.
 *
 * @source containerd v2.3.4 plugins/mount/erofs/plugin_linux.go
 */
export const erofsHandler: MountHandler = {
  type: "erofs",
  async mount({ options, ...mount }, mountPoint) {
    const plain = { ...mount, options: options.filter((option) => option !== "loop") };
    await mkdir(mountPoint, { mode: 0o700, recursive: true });
    try {
      if (!needsDevices) {
        try {
          mountFileSystem(plain, mountPoint);
          return plain;
        } catch (error) {
          if (systemErrorCode(error) !== "ENOTBLK") {
            throw error;
          }
          needsDevices = true;
        }
      }
      return await mountByDevices(plain, mountPoint);
    } catch (error) {
      await rmdir(mountPoint).catch(() => undefined);
      throw error;
    }
  },
  unmount: (mountPoint) => unmountAll(mountPoint),
};

/** Every image gets a loop device, which goes with the mount. */
async function mountByDevices(mount: Mount, mountPoint: string): Promise<Mount> {
  await using devices = new AsyncDisposableStack();
  const attach = async (path: string): Promise<string> =>
    devices.use(await attachLoop(path, { readOnly: true, autoclear: true })).path;
  const source = await attach(mount.source);
  const options: string[] = [];
  for (const option of mount.options) {
    options.push(
      option.startsWith(deviceOption) ? `${deviceOption}${await attach(option.slice(deviceOption.length))}` : option,
    );
  }
  const attached = { ...mount, source, options };
  mountFileSystem(attached, mountPoint);
  return attached;
}
