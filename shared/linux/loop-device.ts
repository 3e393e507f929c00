import { readdir, realpath, stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { readFileIfThere } from "#base/durable-file.ts";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { toByteString } from "./bytes.ts";
import { closeFile, OpenFlag, openAt, succeed, workingDirectory } from "./file.ts";
import { controlMemory, controlNumber } from "./ioctl.ts";
import { SystemError } from "./libc.ts";
import { readMountInfo } from "./mount-info.ts";

/** @source linux/loop.h */
const request = { getFree: 0x4c82, configure: 0x4c0a, clear: 0x4c01, getStatus: 0x4c05, setStatus: 0x4c04 } as const;
const flag = { readOnly: 1, autoclear: 4, directIo: 16 } as const;

/** Layout of `struct loop_config` and, in it, `struct loop_info64`. @source linux/loop.h */
const configBytes = 304;
const infoOffset = 8;
const infoBytes = 232;
const deviceOffset = 0;
const inodeOffset = 8;
const startOffset = 24;
const sizeLimitOffset = 32;
const flagsOffset = 52;
const nameOffset = 56;
const nameBytesMax = 63;

const blockDevices = "/sys/block";

/** How often a free device is looked for again when somebody else was faster. @source containerd v2.3.4 core/mount/losetup_linux.go `SetupLoop` */
const triesMax = 100;
const settlePollMs = 20;

/** How a file is shown as a block device. */
export interface LoopOptions {
  readonly readOnly?: boolean;
  /** Lets go of the file when nobody has the device open or mounted any more. */
  readonly autoclear?: boolean;
  readonly directIo?: boolean;
}

/** A loop device that is open. Closing it does not let go of the file, unless it is autoclear and nobody else uses it. */
export interface LoopDevice extends Disposable {
  /** Such as `/dev/loop7`. */
  readonly path: string;
}

/**
 * Shows a file as a block device.
 *
 * @throws {@link SystemError} when the file cannot be opened or there are no devices.
 * @source containerd v2.3.4 core/mount/losetup_linux.go `SetupLoop`, loop(4)
 */
export async function attachLoop(backingFile: string, options: LoopOptions = {}): Promise<LoopDevice> {
  for (let tries = 1; tries < triesMax; tries += 1) {
    const device = tryAttach(backingFile, `/dev/loop${findFree()}`, options);
    if (device !== undefined) {
      return device;
    }
    await delay(Math.random() * tries * 10);
  }
  throw new FlotillaError(ErrorKind.Unknown, "timeout creating new loopback device");
}

/** Lets go of the file behind a device, at once or when the last user is gone. */
export function detachLoop(path: string): void {
  using device = open(path, OpenFlag.ReadOnly);
  succeed(controlNumber(device.descriptor, request.clear, 0), () => `failed to remove loop device: ${path}`);
}

/** Has a device let go of its file when nobody uses it any more, or keep it. */
export function setLoopAutoclear(path: string, autoclear: boolean): void {
  using device = open(path, OpenFlag.ReadOnly);
  const info = Buffer.alloc(infoBytes);
  succeed(controlMemory(device.descriptor, request.getStatus, info), () => "failed to get loop device info");
  const before = info.readUInt32LE(flagsOffset);
  const after = autoclear ? before | flag.autoclear : before & ~flag.autoclear;
  if (after !== before) {
    info.writeUInt32LE(after, flagsOffset);
    succeed(controlMemory(device.descriptor, request.setStatus, info), () => "failed to set loop device info");
  }
}

/**
 * Opens the loop device by which some mount or program may still write to a file, if there is one. It keeps the file for as long as it is open.
 *
 * @source Linux Documentation/ABI/testing/sysfs-block-loop, loop(4)
 */
export async function openWritingLoop(backingFile: string): Promise<LoopDevice | undefined> {
  const path = await realpath(backingFile);
  for (const name of await readdir(blockDevices)) {
    const shown = name.startsWith("loop") && (await readFileIfThere(`${blockDevices}/${name}/loop/backing_file`));
    if (shown === `${path}\n`) {
      const device = openIfWriting(`/dev/${name}`, await stat(path, { bigint: true }));
      if (device !== undefined) {
        return device;
      }
    }
  }
  return undefined;
}

/**
 * Waits until no mount writes to a file any more. A container that is being started keeps all mounts of the machine until it has its own root,
 * and what is written to such a file system is whole in the file when the last of them is gone. Mounts of our own namespace are not waited for:
 * they go when somebody takes them off.
 *
 * @param waitMsMax - After which it is given up.
 * @returns whether something may still write to the file.
 */
export async function isStillWritten(backingFile: string, waitMsMax: number): Promise<boolean> {
  for (const deadline = performance.now() + waitMsMax; ; await delay(settlePollMs)) {
    const path = await writingLoopOf(backingFile);
    if (path === undefined) {
      return false;
    }
    if (performance.now() >= deadline || (await readMountInfo()).some(({ source }) => source === path)) {
      return true;
    }
  }
}

/** Keeps no device open, so that the last mount lets go of the file. */
async function writingLoopOf(backingFile: string): Promise<string | undefined> {
  using device = await openWritingLoop(backingFile);
  return device?.path;
}

/** The device may have let go of the file, and have got another one, until it is open. */
function openIfWriting(path: string, file: { readonly dev: bigint; readonly ino: bigint }): LoopDevice | undefined {
  const descriptor = openAt(workingDirectory, toByteString(path), OpenFlag.ReadOnly);
  if (descriptor < 0) {
    return undefined;
  }
  using opened = new DisposableStack();
  opened.adopt(descriptor, closeFile);
  const info = Buffer.alloc(infoBytes);
  if (
    controlMemory(descriptor, request.getStatus, info) < 0 ||
    info.readBigUInt64LE(deviceOffset) !== file.dev ||
    info.readBigUInt64LE(inodeOffset) !== file.ino ||
    info.readBigUInt64LE(startOffset) !== 0n ||
    info.readBigUInt64LE(sizeLimitOffset) !== 0n ||
    (info.readUInt32LE(flagsOffset) & flag.readOnly) !== 0
  ) {
    return undefined;
  }
  const kept = opened.move();
  return { path, [Symbol.dispose]: () => kept.dispose() };
}

function findFree(): number {
  using control = open("/dev/loop-control", OpenFlag.ReadWrite);
  return succeed(controlNumber(control.descriptor, request.getFree, 0), () => "could not get free loop device");
}

/** @returns undefined when somebody else took the device. */
function tryAttach(backingFile: string, path: string, options: LoopOptions): LoopDevice | undefined {
  const access = options.readOnly === true ? OpenFlag.ReadOnly : OpenFlag.ReadWrite;
  using backing = openFor(backingFile, access, `could not open backing file: ${backingFile}`);
  const device = openFor(path, access, `could not open loop device: ${path}`);
  const config = Buffer.alloc(configBytes);
  config.writeUInt32LE(backing.descriptor, 0);
  config.writeUInt32LE(
    (options.readOnly === true ? flag.readOnly : 0) |
      (options.autoclear === true ? flag.autoclear : 0) |
      (options.directIo === true ? flag.directIo : 0),
    infoOffset + flagsOffset,
  );
  Buffer.from(backingFile)
    .subarray(0, nameBytesMax)
    .copy(config, infoOffset + nameOffset);
  const result = controlMemory(device.descriptor, request.configure, config);
  if (result >= 0) {
    return { path, [Symbol.dispose]: () => device[Symbol.dispose]() };
  }
  device[Symbol.dispose]();
  const error = new SystemError(-result, `failed to configure loop device: ${path}`);
  if (error.code === "EBUSY") {
    return undefined;
  }
  throw error;
}

interface OpenDescriptor extends Disposable {
  readonly descriptor: number;
}

function open(path: string, flags: number): OpenDescriptor {
  return openFor(path, flags, `could not open ${path}`);
}

function openFor(path: string, flags: number, context: string): OpenDescriptor {
  const descriptor = succeed(openAt(workingDirectory, toByteString(path), flags), () => context);
  return {
    descriptor,
    [Symbol.dispose]: () => {
      closeFile(descriptor);
    },
  };
}
