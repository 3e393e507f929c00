import { statSync } from "node:fs";
import { open } from "node:fs/promises";
import { ErrorKind, FlotillaError, systemErrorCode, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import {
  type MappedDevice,
  type MappedDevices,
  type MappedTarget,
  machineMappedDevices,
} from "#linux/device-mapper.ts";
import { attachLoop } from "#linux/loop-device.ts";
import type { VerityMetadata } from "./metadata.ts";
import { decodeSuperblock, hashStart, superblockBytes, type VeritySuperblock } from "./superblock.ts";

const sectorBytes = 512;
/** Which of the words of a target it is. */
const rootHashWord = 8;
/** How often a device is looked for again that was there and went before it could be used. */
const triesMax = 5;

/** A device that shows an image and checks every block of it. */
export interface VerifiedDevice extends Disposable {
  readonly path: string;
}

/**
 * Shows an image as a device that gives no byte which is not as it was when its hash was taken. All who show the same image share the device.
 *
 * It is there at least until it is disposed of, and then for as long as it is mounted: so it needs nobody to remove it, and a crash leaves none
 * that is mounted nowhere for longer than until the image is mounted the next time.
 *
 * @throws {@link FlotillaError} `unknown` for an image that has no hashes, or a device of that name with another image.
 * @source containerd v2.3.4 plugins/mount/erofs/plugin_linux.go `setupDmVerityDevice`, internal/dmverity/dmverity_linux.go `Open`
 */
export async function openVerifiedDevice(
  image: string,
  metadata: VerityMetadata,
  devices: MappedDevices = machineMappedDevices,
): Promise<VerifiedDevice> {
  const name = deviceName(image);
  const superblock = decodeSuperblock(await readSuperblock(image, metadata.hashOffset));
  for (let tries = 0; tries < triesMax; tries += 1) {
    await createUnlessThere(devices, { name, image, metadata, superblock });
    const found = devices.find(name);
    const held = found === undefined ? undefined : hold(devices, found.path);
    if (held !== undefined) {
      // Its number may have been given to another one before it was held.
      const device = devices.find(name);
      if (device !== undefined && device.path === found?.path) {
        return guard(devices, { name, device, held, rootHash: metadata.rootHash });
      }
      held[Symbol.dispose]();
    }
  }
  throw new FlotillaError(ErrorKind.Unknown, `failed to open dm-verity device: ${name} does not stay`);
}

/**
 * Removes the device of an image if a crash has left it without a mount. One that is mounted goes with its last mount.
 *
 * @throws {@link SystemError}, `ENOENT` too for an image that is not there.
 */
export function forgetVerifiedDevice(image: string, devices: MappedDevices = machineMappedDevices): void {
  devices.removeWhenUnused(deviceName(image));
}

/** Named after the file itself: its path changes before it is deleted, and a second daemon may have snapshots of the same numbers. */
export function deviceName(image: string): string {
  const { dev, ino } = statSync(image, { bigint: true });
  return `containerd-erofs-${dev.toString(16)}-${ino}`;
}

async function createUnlessThere(
  devices: MappedDevices,
  parts: {
    readonly name: string;
    readonly image: string;
    readonly metadata: VerityMetadata;
    readonly superblock: VeritySuperblock;
  },
): Promise<void> {
  if (devices.find(parts.name) !== undefined) {
    return;
  }
  // The device keeps it, and it goes with the device.
  using loop = await attachLoop(parts.image, { readOnly: true, autoclear: true });
  try {
    devices.create(parts.name, targetOf(loop.path, parts.metadata, parts.superblock));
  } catch (error) {
    // Somebody else was faster.
    if (systemErrorCode(error) !== "EBUSY" || devices.find(parts.name) === undefined) {
      throw wrapFailure(error, "failed to open dm-verity device");
    }
  }
}

/** @source Linux Documentation/admin-guide/device-mapper/verity.rst `Construction Parameters` */
function targetOf(loop: string, { rootHash, hashOffset }: VerityMetadata, superblock: VeritySuperblock): MappedTarget {
  const { hashType, algorithm, dataBlockBytes, hashBlockBytes, dataBlocks, salt } = superblock;
  const words = [
    hashType,
    loop,
    loop,
    dataBlockBytes,
    hashBlockBytes,
    dataBlocks,
    hashStart(hashOffset, hashBlockBytes) / hashBlockBytes,
    algorithm,
    rootHash,
    salt.length === 0 ? "-" : salt.toString("hex"),
  ];
  return {
    type: "verity",
    sectors: (dataBlocks * BigInt(dataBlockBytes)) / BigInt(sectorBytes),
    parameters: words.join(" "),
  };
}

/** @returns Undefined when it has gone. */
function hold(devices: MappedDevices, path: string): Disposable | undefined {
  try {
    return devices.hold(path);
  } catch (error) {
    if (["ENOENT", "ENXIO", "ENODEV"].includes(systemErrorCode(error) ?? "")) {
      return undefined;
    }
    throw error;
  }
}

/** A device of ours, or of an earlier process, may have found the image changed, or be of another image. */
function guard(
  devices: MappedDevices,
  {
    name,
    device,
    held,
    rootHash,
  }: { readonly name: string; readonly device: MappedDevice; readonly held: Disposable; readonly rootHash: string },
): VerifiedDevice {
  if (!device.status.startsWith("V") || device.parameters.split(" ")[rootHashWord] !== rootHash) {
    held[Symbol.dispose]();
    throw new FlotillaError(
      ErrorKind.Unknown,
      `existing dm-verity device ${quote(name)} verification failed: dm-verity device ${quote(name)} verification failed`,
    );
  }
  return {
    path: device.path,
    [Symbol.dispose]: () => {
      try {
        devices.removeWhenUnused(name);
      } finally {
        held[Symbol.dispose]();
      }
    },
  };
}

async function readSuperblock(image: string, offset: number): Promise<Buffer> {
  await using file = await open(image, "r");
  const { buffer, bytesRead } = await file.read(Buffer.alloc(superblockBytes), 0, superblockBytes, offset);
  return buffer.subarray(0, bytesRead);
}
