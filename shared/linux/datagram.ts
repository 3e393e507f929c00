import { ErrorKind, failure } from "#base/errors.ts";
import { checked, nativeFunction } from "./libc.ts";

/** @source bits/socket.h, linux/un.h */
const unixFamily = 1;
const datagramType = 2;
const closeOnExec = 0o200_0000;
const pathBytesMax = 107;
/** A full queue is no reason to wait, and a closed one none to die. @source bits/socket.h */
const doNotWait = 0x40;
const noSignal = 0x4000;

const socketCall = nativeFunction("int socket(int domain, int type, int protocol)");
const sendtoCall = nativeFunction(
  "long sendto(int descriptor, const void *data, size_t length, int flags, const void *address, uint32_t size)",
);
const closeCall = nativeFunction("int close(int descriptor)");

/**
 * Sends one datagram to a Unix socket, which Node.js cannot.
 *
 * @param path - Path of the socket; with an `@` before it, a name that is no file.
 * @throws {@link FlotillaError} `invalid_argument` for a path that is too long; {@link SystemError}.
 * @source unix(7)
 */
export function sendDatagram(path: string, text: string): void {
  const name = Buffer.from(path);
  if (name.length > pathBytesMax) {
    throw failure(ErrorKind.InvalidArgument, `unix socket path ${path} is too long`);
  }
  const address = Buffer.alloc(2 + name.length + 1);
  address.writeUInt16LE(unixFamily, 0);
  name.copy(address, 2);
  let size = address.length;
  if (path.startsWith("@")) {
    address[2] = 0;
    size -= 1;
  }
  const descriptor = checked(socketCall(unixFamily, datagramType | closeOnExec, 0), () => "socket");
  try {
    const data = Buffer.from(text);
    checked(sendtoCall(descriptor, data, data.length, doNotWait | noSignal, address, size), () => `sendto ${path}`);
  } finally {
    closeCall(descriptor);
  }
}
