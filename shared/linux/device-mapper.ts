import { toByteString } from "./bytes.ts";
import { closeFile, OpenFlag, openAt, succeed, workingDirectory } from "./file.ts";
import { controlMemory } from "./ioctl.ts";
import { Errno, SystemError } from "./libc.ts";

/** The numbers of the calls. @source linux/dm-ioctl.h `_IOWR(DM_IOCTL, …, struct dm_ioctl)` */
const request = {
  create: 0xc138_fd03,
  remove: 0xc138_fd04,
  resume: 0xc138_fd06,
  find: 0xc138_fd07,
  load: 0xc138_fd09,
  status: 0xc138_fd0c,
} as const;
const flag = { readOnly: 1, statusTable: 0x10, deferredRemove: 0x2_0000 } as const;

/** Layout of `struct dm_ioctl` and, behind it, `struct dm_target_spec`. @source linux/dm-ioctl.h */
const headBytes = 312;
const specBytes = 40;
const sizeOffset = 12;
const startOffset = 16;
const targetsOffset = 20;
const flagsOffset = 28;
const deviceOffset = 40;
const nameOffset = 48;
const nameBytesMax = 127;
const lengthOffset = 8;
const typeOffset = 24;
/** What a table may say about itself. */
const answerBytes = 16_384;
/** The oldest interface that removes a device when its last user has gone: Linux 3.13. */
const version = [4, 27, 0] as const;

/** Is there where the kernel has the device mapper. */
export const mapperControl = "/dev/mapper/control";

/** A device that is one target from its beginning to its end, and read-only. */
export interface MappedTarget {
  /** Kind of the target, such as `verity`. */
  readonly type: string;
  /** Length in units of 512 bytes. */
  readonly sectors: bigint;
  readonly parameters: string;
}

/** A device that is there. */
export interface MappedDevice {
  /** `/dev/dm-N`, which the kernel itself makes; `/dev/mapper` is filled by udev, later or never. */
  readonly path: string;
  /** What the target says of itself. */
  readonly status: string;
  /** What it was made with. */
  readonly parameters: string;
}

/** Devices of the device mapper. Tests put a recording one in its place. */
export interface MappedDevices {
  /** Makes a device. @throws {@link SystemError} `EBUSY` when the name is taken; others when there is no device, then or before. */
  create(name: string, target: MappedTarget): void;
  /** @returns Undefined when there is no such device, or none that works. @throws {@link SystemError} */
  find(name: string): MappedDevice | undefined;
  /** Removes a device, at once or when the last user has closed or unmounted it. One that is not there is no error. @throws {@link SystemError} */
  removeWhenUnused(name: string): void;
  /** Opens a device, which stays until it is closed. @throws {@link SystemError} */
  hold(path: string): Disposable;
}

/**
 * The devices of this machine.
 *
 * @source linux/dm-ioctl.h, Linux Documentation/admin-guide/device-mapper
 */
export const machineMappedDevices: MappedDevices = {
  create(name, target) {
    using control = openDevice(mapperControl, OpenFlag.ReadWrite);
    const { descriptor } = control;
    call(descriptor, request.create, message(name), `create device ${name}`);
    try {
      call(descriptor, request.load, tableMessage(name, target), `load table of ${name}`);
      call(descriptor, request.resume, message(name), `resume device ${name}`);
    } catch (error) {
      controlMemory(descriptor, request.remove, message(name));
      throw error;
    }
  },
  find(name) {
    using control = openDevice(mapperControl, OpenFlag.ReadWrite);
    const found = message(name);
    const result = controlMemory(control.descriptor, request.find, found);
    if (result === -Errno.NoDeviceOrAddress) {
      return undefined;
    }
    succeed(result, () => `find device ${name}`);
    const status = describe(control.descriptor, name, 0);
    const parameters = describe(control.descriptor, name, flag.statusTable);
    return status === undefined || parameters === undefined
      ? undefined
      : { path: `/dev/dm-${minorOf(found.readBigUInt64LE(deviceOffset))}`, status, parameters };
  },
  removeWhenUnused(name) {
    using control = openDevice(mapperControl, OpenFlag.ReadWrite);
    const result = controlMemory(control.descriptor, request.remove, message(name, { flags: flag.deferredRemove }));
    if (result !== -Errno.NoDeviceOrAddress) {
      succeed(result, () => `remove device ${name}`);
    }
  },
  hold: (path) => openDevice(path, OpenFlag.ReadOnly),
};

/** What a table says; undefined when the device, or its table, has gone. */
function describe(control: number, name: string, flags: number): string | undefined {
  const answer = message(name, { flags, bytes: answerBytes });
  const result = controlMemory(control, request.status, answer);
  if (result === -Errno.NoDeviceOrAddress) {
    return undefined;
  }
  succeed(result, () => `status of device ${name}`);
  if (answer.readUInt32LE(targetsOffset) === 0) {
    return undefined;
  }
  const start = answer.readUInt32LE(startOffset) + specBytes;
  return answer.toString("latin1", start, answer.indexOf(0, start));
}

function call(control: number, number: number, memory: Buffer, what: string): void {
  succeed(controlMemory(control, number, memory), () => what);
}

function message(
  name: string,
  { flags = 0, bytes = 0 }: { readonly flags?: number; readonly bytes?: number } = {},
): Buffer {
  if (Buffer.byteLength(name) > nameBytesMax) {
    throw new SystemError(Errno.NameTooLong, `device ${name}`);
  }
  const memory = Buffer.alloc(headBytes + bytes);
  for (const [index, part] of version.entries()) {
    memory.writeUInt32LE(part, index * 4);
  }
  memory.writeUInt32LE(memory.length, sizeOffset);
  memory.writeUInt32LE(headBytes, startOffset);
  memory.writeUInt32LE(flags, flagsOffset);
  memory.write(name, nameOffset);
  return memory;
}

function tableMessage(name: string, { type, sectors, parameters }: MappedTarget): Buffer {
  // The parameters end with a NUL, and the whole at a multiple of eight.
  const bytes = specBytes + (Math.floor(Buffer.byteLength(parameters) / 8) + 1) * 8;
  const memory = message(name, { flags: flag.readOnly, bytes });
  memory.writeUInt32LE(1, targetsOffset);
  memory.writeBigUInt64LE(sectors, headBytes + lengthOffset);
  memory.write(type, headBytes + typeOffset);
  memory.write(parameters, headBytes + specBytes);
  return memory;
}

/** @source linux/kdev_t.h `huge_encode_dev` */
function minorOf(device: bigint): number {
  const number = Number(device & 0xffff_ffffn);
  return (number & 0xff) | ((number >>> 12) & 0xf_ff00);
}

function openDevice(path: string, flags: number): Disposable & { readonly descriptor: number } {
  const descriptor = succeed(openAt(workingDirectory, toByteString(path), flags), () => `open ${path}`);
  return {
    descriptor,
    [Symbol.dispose]: () => {
      closeFile(descriptor);
    },
  };
}
