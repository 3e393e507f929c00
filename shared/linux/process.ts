import { readFileSync, writeFileSync } from "node:fs";
import { systemErrorCode } from "#base/errors.ts";
import { checked, lastErrno, nativeFunction, SystemError } from "./libc.ts";

/** @source linux/prctl.h */
const setParentDeathSignal = 1;
const setChildSubreaper = 36;

const prctlCall = nativeFunction(
  "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)",
);

/**
 * Makes this process the parent of descendants whose own parent has ended, as init would be otherwise. It must then wait for
 * them.
 *
 * @source prctl(2) `PR_SET_CHILD_SUBREAPER`
 */
export function becomeSubreaper(): void {
  checked(prctlCall(setChildSubreaper, 1, 0, 0, 0), () => "prctl PR_SET_CHILD_SUBREAPER");
}

/**
 * Asks for a signal to this process when the thread that started it ends.
 *
 * @param signal - Number of the signal, 0 for none.
 * @source prctl(2) `PR_SET_PDEATHSIG`
 */
export function signalOnParentDeath(signal: number): void {
  checked(prctlCall(setParentDeathSignal, signal, 0, 0, 0), () => "prctl PR_SET_PDEATHSIG");
}

/**
 * Sets how readily the kernel ends a process when memory runs out.
 *
 * @param score - From -1000, never, to 1000.
 * @returns Undefined when it was set; else why it could not be: lowering it takes CAP_SYS_RESOURCE, which a daemon in a
 *   container often lacks and can do without. The score is then as near as the process may go, its present one.
 * @source proc_pid_oom_score_adj(5)
 */
export function setOutOfMemoryScore(process: number | "self", score: number): Error | undefined {
  try {
    writeFileSync(`/proc/${process}/oom_score_adj`, String(score));
    return undefined;
  } catch (error) {
    if (error instanceof Error && (systemErrorCode(error) === "EACCES" || systemErrorCode(error) === "EPERM")) {
      return error;
    }
    throw error;
  }
}

/** How readily the kernel ends a process when memory runs out, from -1000 to 1000. */
export function outOfMemoryScore(process: number | "self"): number {
  return Number(readFileSync(`/proc/${process}/oom_score_adj`, "utf8"));
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
