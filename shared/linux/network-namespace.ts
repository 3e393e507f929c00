import { closeSync, openSync } from "node:fs";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { checked, nativeFunction } from "./libc.ts";

/** @source linux/sched.h `CLONE_NEWNET` */
const newNetwork = 0x4000_0000;
/** @source linux/socket.h, linux/net.h; O_CLOEXEC and O_NONBLOCK of asm-generic/fcntl.h */
const families = { ipv4: 2, ipv6: 10 } as const;
const streamSocket = 1;
const closeOnExec = 0x8_0000;
const nonBlocking = 0x800;

const setnsCall = nativeFunction("int setns(int descriptor, int type)");
const socketCall = nativeFunction("int socket(int family, int type, int protocol)");

/**
 * Makes a TCP socket that belongs to another network namespace, and stays there whoever uses it.
 *
 * The calling thread is there only within this call, which waits for nothing; a thread that can't come back ends the process, since whatever
 * it did then would happen in a namespace of somebody else.
 *
 * @param namespacePath - Such as `/proc/PID/ns/net` or `/var/run/netns/NAME`.
 * @returns Its descriptor, which is the caller's to close.
 * @throws Of `node:fs` when there is no such file; {@link SystemError} when it is no network namespace, or for want of CAP_SYS_ADMIN.
 * @source setns(2), socket(2), network_namespaces(7)
 */
export function openSocketInNamespace(namespacePath: string, family: keyof typeof families): number {
  const own = openSync("/proc/thread-self/ns/net", "r");
  try {
    const other = openSync(namespacePath, "r");
    try {
      checked(setnsCall(other, newNetwork), () => `setns ${namespacePath}`);
    } finally {
      closeSync(other);
    }
    const descriptor = socketCall(families[family], streamSocket | closeOnExec | nonBlocking, 0);
    const failure =
      descriptor === -1 ? new FlotillaError(ErrorKind.Unknown, `no socket in ${namespacePath}`) : undefined;
    if (setnsCall(own, newNetwork) !== 0) {
      process.abort();
    }
    if (failure !== undefined) {
      throw failure;
    }
    return descriptor;
  } finally {
    closeSync(own);
  }
}
