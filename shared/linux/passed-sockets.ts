import { checked, nativeFunction } from "./libc.ts";

/** The first descriptor that a service manager passes. @source sd_listen_fds(3) */
const firstDescriptor = 3;
/** More than any unit of ours has. */
const descriptorsMax = 64;

/** @source linux/un.h `sockaddr_un`, asm-generic/fcntl.h */
const addressBytes = 110;
const pathStart = 2;
const setDescriptorFlags = 2;
const closeOnExec = 1;

const getsocknameCall = nativeFunction("int getsockname(int descriptor, void *address, void *size)");
const fcntlCall = nativeFunction("int fcntl(int descriptor, int command, int argument)");

let passed: Map<string, number> | undefined;

/**
 * Takes a listening socket that the service manager has opened for this process, by the path that it listens on.
 *
 * @returns Its descriptor, which is the caller's from now on; undefined when there is none.
 * @throws {@link SystemError}
 * @source sd_listen_fds(3)
 */
export function takePassedSocket(path: string): number | undefined {
  passed ??= readPassedSockets();
  const descriptor = passed.get(path);
  passed.delete(path);
  return descriptor;
}

/** Tells whether the service manager has opened a listening socket on this path, and nobody has taken it yet. */
export function hasPassedSocket(path: string): boolean {
  passed ??= readPassedSockets();
  return passed.has(path);
}

function readPassedSockets(): Map<string, number> {
  const { LISTEN_PID: pid = "", LISTEN_FDS: count = "" } = process.env;
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) {
    delete process.env[name];
  }
  const sockets = new Map<string, number>();
  if (pid !== String(process.pid)) {
    return sockets;
  }
  for (let index = 0; index < Math.min(Number(count), descriptorsMax); index += 1) {
    const descriptor = firstDescriptor + index;
    // What this process starts has no business with it.
    checked(fcntlCall(descriptor, setDescriptorFlags, closeOnExec), () => `fcntl ${descriptor}`);
    sockets.set(pathOf(descriptor), descriptor);
  }
  return sockets;
}

function pathOf(descriptor: number): string {
  const address = Buffer.alloc(addressBytes);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(addressBytes);
  checked(getsocknameCall(descriptor, address, size), () => `getsockname ${descriptor}`);
  const end = address.indexOf(0, pathStart);
  return address.toString("utf8", pathStart, Math.min(end === -1 ? addressBytes : end, size.readUInt32LE()));
}
