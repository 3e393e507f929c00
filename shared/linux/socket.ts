import type { Socket } from "node:net";
import { ErrorKind, failure } from "#base/errors.ts";
import { checked, lastErrno, nativeFunction } from "./libc.ts";

/** Who is at the other end of a Unix socket, as the kernel noted it when the connection was made. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** @source asm-generic/socket.h */
const socketLevel = 1;
const peerCredentials = 17;
const peerGroups = 59;
/** More groups than this are not asked for; the kernel takes up to 65,536. @source limits.h `NGROUPS_MAX` */
const groupsMax = 65_536;
const groupsTried = 64;
/** @source asm-generic/errno.h `ERANGE` */
const outOfRange = 34;
const sendBuffer = 7;
const sendBufferForced = 32;

const getsockoptCall = nativeFunction("int getsockopt(int descriptor, int level, int option, void *value, void *size)");

/**
 * Asks the kernel who connected.
 *
 * @param socket - A connected Unix socket.
 * @throws {@link SystemError}; {@link FlotillaError} `failed_precondition` when the socket is closed.
 * @source unix(7) `SO_PEERCRED`
 */
export function peerOf(socket: Socket): PeerCredentials {
  const credentials = Buffer.alloc(12);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(credentials.length);
  checked(
    getsockoptCall(descriptorOf(socket), socketLevel, peerCredentials, credentials, size),
    () => "getsockopt SO_PEERCRED",
  );
  return { pid: credentials.readInt32LE(0), uid: credentials.readUInt32LE(4), gid: credentials.readUInt32LE(8) };
}

/**
 * Asks the kernel in which groups the process that connected was, besides its own.
 *
 * @param socket - A connected Unix socket.
 * @throws {@link SystemError}; {@link FlotillaError} `failed_precondition` when the socket is closed.
 * @source linux/net/core/sock.c `SO_PEERGROUPS`
 */
export function peerGroupsOf(socket: Socket): number[] {
  for (let count = groupsTried; ; count = groupsMax) {
    const groups = Buffer.alloc(count * 4);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(groups.length);
    const result = getsockoptCall(descriptorOf(socket), socketLevel, peerGroups, groups, size);
    if (result === -1 && count < groupsMax && lastErrno() === outOfRange) {
      continue;
    }
    checked(result, () => "getsockopt SO_PEERGROUPS");
    return Array.from({ length: size.readUInt32LE() / 4 }, (_, index) => groups.readUInt32LE(index * 4));
  }
}

const setsockoptCall = nativeFunction(
  "int setsockopt(int descriptor, int level, int option, const void *value, int size)",
);

/**
 * Lets the kernel keep so many bytes that were sent and not received yet, so that bulk data leaves by few calls. Without the capability
 * NET_ADMIN they are at most what the machine allows everybody. It takes no memory unless there are such bytes.
 *
 * @param socket - One that has been accepted. One that is closed meanwhile stays as it is.
 * @source socket(7) `SO_SNDBUF`, `SO_SNDBUFFORCE`
 */
export function widenSendBuffer(socket: Socket, sizeBytes: number): void {
  const descriptor = findDescriptor(socket);
  if (descriptor !== undefined) {
    const size = Buffer.alloc(4);
    size.writeUInt32LE(sizeBytes);
    if (setsockoptCall(descriptor, socketLevel, sendBufferForced, size, size.length) !== 0) {
      setsockoptCall(descriptor, socketLevel, sendBuffer, size, size.length);
    }
  }
}

function descriptorOf(socket: Socket): number {
  const descriptor = findDescriptor(socket);
  if (descriptor === undefined) {
    throw failure(ErrorKind.FailedPrecondition, "socket is closed");
  }
  return descriptor;
}

/** Node.js has no public way to the descriptor of a socket; its handle has carried it as `fd` since the first versions. */
function findDescriptor(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: number } | null };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}
