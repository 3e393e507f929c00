import { closeSync, constants, openSync, statfsSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { systemErrorCode } from "#base/errors.ts";
import { checked, nativeFunction } from "./libc.ts";
import { unmountAll } from "./unmount.ts";

/** @source linux/sched.h */
const cloneNewNet = 0x40000000;
/** @source linux/mount.h `MS_BIND` */
const bindFlag = 4096;
/** @source linux/magic.h `NSFS_MAGIC` */
const namespaceMagic = 0x6e736673;

const ownNamespace = "/proc/thread-self/ns/net";

const unshareCall = nativeFunction("int unshare(int flags)");
const setnsCall = nativeFunction("int setns(int fd, int type)");
const mountCall = nativeFunction(
  "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
);

/**
 * Makes a network namespace and mounts it at a path, which keeps it alive.
 *
 * The thread of JavaScript leaves its own namespace for the time of a few system calls, in which nothing else can run on it: other
 * threads, and sockets that are open, stay where they are. A program for it would take twenty times as long.
 *
 * @param path - Must not exist; its directory must.
 * @throws {@link SystemError} with nothing left behind.
 */
export async function makeNetworkNamespace(path: string): Promise<void> {
  await makeMountPoint(path);
  try {
    visit(() => {
      checked(unshareCall(cloneNewNet), () => "unshare the network namespace");
      bind(ownNamespace, path);
    });
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

/**
 * Mounts a namespace of any kind that exists, such as `/proc/PID/ns/net`, at a path, which keeps it alive.
 *
 * @throws {@link SystemError} with nothing left behind.
 */
export async function keepNamespace(source: string, path: string): Promise<void> {
  await makeMountPoint(path);
  try {
    bind(source, path);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

/** Takes a namespace off its path. It lives on as long as somebody is in it. What is not there is no error. */
export async function releaseNamespace(path: string): Promise<void> {
  await unmountAll(path, { detach: true });
  await rm(path, { force: true });
}

/** Tells whether a namespace is mounted at a path. */
export function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === namespaceMagic;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return false;
    }
    throw error;
  }
}

/** @source linux/socket.h, linux/net.h; O_CLOEXEC and O_NONBLOCK of asm-generic/fcntl.h */
const families = { ipv4: 2, ipv6: 10 } as const;
const streamSocket = 1;
const datagramSocket = 2;
const closeOnExec = 0x8_0000;
const nonBlocking = 0x800;

/**
 * Makes a TCP socket that belongs to another network namespace, and stays there whoever uses it.
 *
 * The calling thread is there only within this call, which waits for nothing.
 *
 * @param namespacePath - Such as `/proc/PID/ns/net` or `/var/run/netns/NAME`.
 * @returns Its descriptor, which is the caller's to close.
 * @throws Of `node:fs` when there is no such file; {@link SystemError} when it is no network namespace, or for want of CAP_SYS_ADMIN.
 * @source setns(2), socket(2), network_namespaces(7)
 */
export function openSocketInNamespace(namespacePath: string, family: keyof typeof families): number {
  return visit(() => {
    enter(namespacePath);
    return checked(
      socketCall(families[family], streamSocket | closeOnExec | nonBlocking, 0),
      () => `no socket in ${namespacePath}`,
    );
  });
}

/** @source linux/sockios.h */
const getFlags = 0x8913;
const setFlags = 0x8914;
/** `struct ifreq`: 16 bytes of name, then the flags. @source linux/if.h */
const requestBytes = 40;
const nameBytes = 16;
const upFlag = 1;

const socketCall = nativeFunction("int socket(int domain, int type, int protocol)");
const ioctlCall = nativeFunction("int ioctl(int fd, unsigned long request, void *argument)");

/** Switches the loopback device of a network namespace on. @throws {@link SystemError} */
export function switchLoopbackOn(path: string): void {
  visit(() => {
    enter(path);
    const socket = checked(socketCall(families.ipv4, datagramSocket, 0), () => "open a socket");
    try {
      const request = Buffer.alloc(requestBytes);
      request.write("lo");
      checked(ioctlCall(socket, getFlags, request), () => "read the flags of lo");
      request.writeUInt16LE(request.readUInt16LE(nameBytes) | upFlag, nameBytes);
      checked(ioctlCall(socket, setFlags, request), () => "switch lo on");
    } finally {
      closeSync(socket);
    }
  });
}

/** Runs what changes the network namespace of this thread, and brings the thread back. */
function visit<T>(work: () => T): T {
  const home = openSync(ownNamespace, constants.O_RDONLY);
  try {
    return work();
  } finally {
    if (setnsCall(home, cloneNewNet) === -1) {
      // Whatever this process did from now on, it would do in the wrong network.
      process.abort();
    }
    closeSync(home);
  }
}

function enter(path: string): void {
  const namespace = openSync(path, constants.O_RDONLY);
  try {
    checked(setnsCall(namespace, cloneNewNet), () => `setns ${path}`);
  } finally {
    closeSync(namespace);
  }
}

function bind(source: string, path: string): void {
  checked(mountCall(source, path, "none", bindFlag, null), () => `mount ${source} at ${path}`);
}

async function makeMountPoint(path: string): Promise<void> {
  await (await open(path, constants.O_CREAT | constants.O_EXCL | constants.O_RDONLY, 0o444)).close();
}
