import { readFileSync, writeFileSync } from "node:fs";
import { errorMessage, systemErrorCode } from "#base/errors.ts";
import { checked, lastErrno, nativeFunction, SystemError } from "./libc.ts";

/**
 * Sets how readily the kernel ends this process, and those that it starts from now on, when memory runs out.
 *
 * @param score - From -1000, never, to 1000. Lowering it takes CAP_SYS_RESOURCE.
 * @returns Why it could not be set; undefined when it was. Nobody who sets it can do better than to say so and go on.
 * @source proc_pid_oom_score_adj(5)
 */
export function setOutOfMemoryScore(score: number): string | undefined {
  try {
    writeFileSync("/proc/self/oom_score_adj", String(score));
    return undefined;
  } catch (error) {
    switch (systemErrorCode(error)) {
      case "EACCES":
        return "lowering it takes CAP_SYS_RESOURCE, which this process does not have: permission denied";
      case "EINVAL":
        return "it must lie between -1000 and 1000: invalid argument";
      default:
        return errorMessage(error);
    }
  }
}

/** @source asm-generic/fcntl.h */
const lockExclusive = 2;
const lockNonBlocking = 4;
/** @source asm-generic/errno-base.h `EAGAIN` */
const wouldBlock = 11;

const flockCall = nativeFunction("int flock(int descriptor, int operation)");

/**
 * Takes the lock of an open file for this process and all that inherit the descriptor, without waiting. It is let go with the
 * last descriptor, so that it never outlives its holder.
 *
 * @returns False when somebody else has it.
 * @throws {@link SystemError}
 * @source flock(2)
 */
export function flockExclusive(descriptor: number): boolean {
  if (flockCall(descriptor, lockExclusive | lockNonBlocking) === 0) {
    return true;
  }
  const errno = lastErrno();
  if (errno === wouldBlock) {
    return false;
  }
  throw new SystemError(errno, "flock");
}

const killCall = nativeFunction("int kill(int process, int signal)");

/** @source asm-generic/errno-base.h `ESRCH` */
const noSuchProcess = 3;

/**
 * Sends a signal by number, real-time signals included, to a process, or to a process group if the number is negative.
 *
 * @returns False when there is no such process.
 * @throws {@link SystemError}
 * @source kill(2)
 */
export function sendSignal(process: number, signal: number): boolean {
  if (killCall(process, signal) === 0) {
    return true;
  }
  const errno = lastErrno();
  if (errno === noSuchProcess) {
    return false;
  }
  throw new SystemError(errno, `kill ${process}`);
}

const unshareCall = nativeFunction("int unshare(int flags)");
const umaskCall = nativeFunction("uint32_t umask(uint32_t mask)");
/** @source linux/sched.h `CLONE_FS` */
const cloneFileSystem = 0x200;

/**
 * Gives the calling thread a working directory and umask of its own and clears the umask, so that files it makes have exactly
 * the mode that is asked for. Other threads keep theirs. For worker threads; it can't be undone.
 *
 * @source unshare(2) `CLONE_FS`, umask(2)
 */
export function clearThreadUmask(): void {
  checked(unshareCall(cloneFileSystem), () => "unshare CLONE_FS");
  umaskCall(0);
}

/** Tells whether the process runs in a user namespace other than the first one. @source github.com/moby/sys/userns userns_linux.go */
export function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return false;
    }
    throw error;
  }
}
