import type { Stats } from "node:fs";
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { ErrorKind, FlotillaError, systemErrorCode, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Device } from "#gen/runtime/v1/api_pb.ts";
import type { DeviceWish } from "./spec/devices.ts";
import type { OciDevice } from "./spec/oci-spec.ts";

/** What lies in /dev and is no device of its own, or another container's business. @source containerd v2.3.4 pkg/oci/utils_unix.go `getDevices` */
const skippedDirectories = new Set(["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"]);
/** Deeper than any tree of devices. */
const depthMax = 16;

/**
 * The devices of the machine that a container wants: those of a path, or of all below it where it is a directory.
 *
 * @throws {@link FlotillaError} `unknown` when the path is none.
 * @source containerd v2.3.4 pkg/oci/utils_unix.go `getDevices`
 */
export async function findDevices(wishes: readonly Device[]): Promise<DeviceWish[]> {
  return await Promise.all(
    wishes.map(async ({ hostPath, containerPath, permissions }) => {
      try {
        return { devices: await devicesBelow(await realpath(hostPath), containerPath, 0), permissions };
      } catch (error) {
        throw wrapFailure(error, `device ${quote(hostPath)}`);
      }
    }),
  );
}

/** All devices of the machine. @source containerd v2.3.4 pkg/oci/utils_unix.go `HostDevices` */
export function allDevices(): Promise<OciDevice[]> {
  return devicesBelow("/dev", "", 0);
}

async function devicesBelow(path: string, containerPath: string, depth: number): Promise<OciDevice[]> {
  if (!(await stat(path)).isDirectory()) {
    const device = describe(path, await lstat(path));
    if (device === undefined) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `get device path: ${quote(path)} containerPath: ${quote(containerPath)} error: not a device node`,
      );
    }
    return [{ ...device, ...(containerPath === "" ? {} : { path: containerPath }) }];
  }
  const found: OciDevice[] = [];
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const { name } = entry;
    const inside = containerPath === "" ? "" : `${containerPath}/${name}`;
    if (entry.isDirectory()) {
      if (!skippedDirectories.has(name) && depth < depthMax) {
        found.push(...(await devicesBelow(`${path}/${name}`, inside, depth + 1)));
      }
      continue;
    }
    const device = name === "console" ? undefined : await findDevice(`${path}/${name}`);
    if (device !== undefined && device.type !== "p") {
      found.push({ ...device, ...(inside === "" ? {} : { path: inside }) });
    }
  }
  return found;
}

/**
 * A device of the machine.
 *
 * @throws {@link FlotillaError} `unknown` when it is something else.
 * @source container-device-interface v1.1 pkg/cdi/container-edits_unix.go `deviceInfoFromPath`
 */
export async function deviceAt(path: string): Promise<OciDevice> {
  const device = describe(path, await lstat(path));
  if (device === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, "not a device node");
  }
  return device;
}

/** @returns undefined for what is no device, or is gone again. */
async function findDevice(path: string): Promise<OciDevice | undefined> {
  try {
    return describe(path, await lstat(path));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return undefined;
    }
    throw error;
  }
}

function describe(path: string, status: Stats): OciDevice | undefined {
  const type = status.isBlockDevice() ? "b" : status.isCharacterDevice() ? "c" : status.isFIFO() ? "p" : undefined;
  if (type === undefined) {
    return undefined;
  }
  const { rdev, mode, uid, gid } = status;
  return { path, type, ...numbersOf(rdev), fileMode: mode & 0o7777, uid, gid };
}

/** Takes the number of a device apart. @source makedev(3) */
export function numbersOf(device: number): { readonly major: number; readonly minor: number } {
  return {
    major: Number(((BigInt(device) >> 8n) & 0xfffn) | ((BigInt(device) >> 32n) & ~0xfffn)),
    minor: Number((BigInt(device) & 0xffn) | ((BigInt(device) >> 12n) & 0xffff_ff00n)),
  };
}
