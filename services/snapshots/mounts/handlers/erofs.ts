import { mkdir, rmdir, stat } from "node:fs/promises";
import { systemErrorCode, wrapFailure } from "#base/errors.ts";
import { attachLoop } from "#linux/loop-device.ts";
import { type Mount, mountFileSystem } from "#linux/mount.ts";
import { findOption } from "#linux/mount-options.ts";
import { unmountAll } from "#linux/unmount.ts";
import { requireDeviceVerity } from "../../verity/kernel-support.ts";
import { readMetadata } from "../../verity/metadata.ts";
import { openVerifiedDevice, type VerifiedDevice } from "../../verity/verified-device.ts";
import type { MountHandler } from "./handler.ts";

const deviceOption = "device=";
/** Names the file that says how the image is checked. */
const verityOption = "X-containerd.dmverity";

/** Whether this kernel has refused to mount an image that is a file. */
let needsDevices = false;

/**
 * Mounts EROFS images: straight from their files where the kernel can (since 6.12), through loop devices elsewhere, and through a device that
 * checks every block where the mount says so.
 *
 * @source containerd v2.3.4 plugins/mount/erofs/plugin_linux.go
 */
export const erofsHandler: MountHandler = {
  type: "erofs",
  async mount({ options, ...mount }, mountPoint) {
    const kept = options.filter((option) => option !== "loop" && !option.startsWith(`${verityOption}=`));
    const metadata = findOption(options, verityOption);
    using device = metadata === undefined ? undefined : await openChecked(mount.source, metadata);
    const plain = { ...mount, source: device?.path ?? mount.source, options: kept };
    await mkdir(mountPoint, { mode: 0o700, recursive: true });
    try {
      return await mountImage(plain, mountPoint);
    } catch (error) {
      await rmdir(mountPoint).catch(() => undefined);
      throw error;
    }
  },
  unmount: (mountPoint) => unmountAll(mountPoint),
};

async function openChecked(image: string, metadata: string): Promise<VerifiedDevice> {
  const read = await readMetadata(metadata).catch((error: unknown) => {
    throw wrapFailure(error, `failed to read dm-verity metadata from ${metadata}`);
  });
  try {
    requireDeviceVerity();
  } catch (error) {
    throw wrapFailure(error, "layer requires dm-verity but system doesn't support it (dm_verity module not loaded)");
  }
  return await openVerifiedDevice(image, read);
}

async function mountImage(mount: Mount, mountPoint: string): Promise<Mount> {
  if (!needsDevices) {
    try {
      mountFileSystem(mount, mountPoint);
      return mount;
    } catch (error) {
      if (systemErrorCode(error) !== "ENOTBLK") {
        throw error;
      }
      needsDevices = true;
    }
  }
  return await mountByDevices(mount, mountPoint);
}

/** Every image that is a file gets a loop device, which goes with the mount. */
async function mountByDevices(mount: Mount, mountPoint: string): Promise<Mount> {
  await using devices = new AsyncDisposableStack();
  const attach = async (path: string): Promise<string> =>
    (await stat(path)).isBlockDevice()
      ? path
      : devices.use(await attachLoop(path, { readOnly: true, autoclear: true })).path;
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
