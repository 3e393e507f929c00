import { withDirectory } from "./directory.ts";
import { succeed } from "./file.ts";
import { controlMemory } from "./ioctl.ts";
import { lastErrno, nativeFunction, SystemError } from "./libc.ts";

/** The number of quotactl_fd(2), the same on every architecture. */
const quotactlNumber = 443;
const quotactlCall = nativeFunction(
  "long syscall(long number, int descriptor, unsigned int command, unsigned int id, void *quota)",
);
/** `QCMD(Q_XGETQSTATV, PRJQUOTA)` and `QCMD(Q_SETQUOTA, PRJQUOTA)`. @source linux/quota.h, linux/dqblk_xfs.h */
const command = { getState: 0x58_0802, set: 0x8000_0802 } as const;
/** `struct fs_quota_statv`: its size, rounded up, its version, and the flag that projects are kept to limits. @source linux/dqblk_xfs.h */
const stateBytes = 256;
const stateVersion = 1;
const stateFlagsOffset = 2;
const projectsEnforced = 1 << 5;
/** Size of `struct if_dqblk`, and where in it is said what counts. */
const quotaBytes = 72;
const validOffset = 64;
const blockLimits = 1;
/** Unit of limits. @source linux/quota.h `QIF_DQBLKSIZE` */
const limitUnitBytes = 1024;

/** @source linux/fs.h `FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`, `struct fsxattr` */
const request = { getAttributes: 0x801c_581f, setAttributes: 0x401c_5820 } as const;
const attributesBytes = 28;
const projectOffset = 12;
const inheritFlag = 0x200;

/** Errors by which a kernel or a file system says that it counts nothing for projects. */
const absent = ["ENOSYS", "ESRCH", "ENOTTY", "ENOTSUP", "EOPNOTSUPP", "EINVAL"];

/**
 * Tells whether the file system of a directory keeps projects to a limit. ext4 counts what they take when it was made for it, but limits them only when
 * it is mounted with `prjquota`.
 *
 * @throws {@link SystemError} when it cannot be told.
 * @source quotactl_fd(2), quotactl(2)
 */
export function hasProjectQuota(directory: string): boolean {
  return withDirectory(directory, (descriptor) => {
    const state = Buffer.alloc(stateBytes);
    state.writeInt8(stateVersion, 0);
    if (quotactlCall(quotactlNumber, descriptor, command.getState, 0, state) === 0) {
      return (state.readUInt16LE(stateFlagsOffset) & projectsEnforced) !== 0;
    }
    const error = new SystemError(lastErrno(), `quota of ${directory}`);
    if (absent.includes(error.code)) {
      return false;
    }
    throw error;
  });
}

/**
 * Makes an empty directory, and all that will be in it, a part of a project.
 *
 * @throws {@link SystemError}
 * @source ioctl_xfs_fsgetxattr(2)
 */
export function joinProject(directory: string, project: number): void {
  withDirectory(directory, (descriptor) => {
    const memory = Buffer.alloc(attributesBytes);
    succeed(controlMemory(descriptor, request.getAttributes, memory), () => `read the project of ${directory}`);
    memory.writeUInt32LE(memory.readUInt32LE(0) | inheritFlag, 0);
    memory.writeUInt32LE(project, projectOffset);
    succeed(controlMemory(descriptor, request.setAttributes, memory), () => `set the project of ${directory}`);
  });
}

/**
 * Keeps a project to a number of bytes; writes beyond it fail with `ENOSPC` or `EDQUOT`. 0 lifts the limit.
 *
 * @param directory - On the file system.
 * @throws {@link SystemError}
 */
export function limitProject(directory: string, project: number, limitBytes: number): void {
  withDirectory(directory, (descriptor) => {
    const quota = Buffer.alloc(quotaBytes);
    const units = BigInt(Math.ceil(limitBytes / limitUnitBytes));
    quota.writeBigUInt64LE(units, 0);
    quota.writeBigUInt64LE(units, 8);
    quota.writeUInt32LE(blockLimits, validOffset);
    if (quotactlCall(quotactlNumber, descriptor, command.set, project, quota) !== 0) {
      throw new SystemError(lastErrno(), `limit the project of ${directory}`);
    }
  });
}
