import { once } from "node:events";
import { chmod, chown, mkdir, rm } from "node:fs/promises";
import net from "node:net";
import { dirname } from "node:path";
import { ErrorKind, failure } from "#base/errors.ts";
import { socketPathBytesMax } from "#base/limits.ts";
import { takePassedSocket } from "#linux/passed-sockets.ts";
import { widenSendBuffer } from "#linux/socket.ts";

/** Where and for whom to listen. */
export interface ListenOptions {
  /** A stale socket is removed first. At most 104 bytes. Its directory is made if it is not there. */
  readonly socketPath: string;
  /** Permission bits of the socket, 0o660 unless given. They are what keeps others out. */
  readonly socketMode?: number;
  /** Tells whether a connection is let in; all are, unless given. One that is not is closed without a word. */
  admit?(socket: net.Socket): boolean;
  /** User and group that the socket is given to; the process's own unless given. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Connections that are open at the same time, 4096 unless given: more than a machine has, and each costs memory. Beyond them new ones are closed. */
  readonly connectionsMax?: number;
}

const socketModeDefault = 0o660;
const connectionsMaxDefault = 4096;
const directoryMode = 0o770;
/** As much as the largest piece that our processes send at once; the kernel counts its own bookkeeping as well. */
const sendBufferBytes = 1024 * 1024;
/** What the kernel makes a socket with while it is nobody's yet. */
const ownerOnly = 0o177;

/**
 * Listens on a Unix socket; on the one that the service manager has opened at this path, if it has, which is then as it was made. Any other never is more open than its final mode: it is made for its owner alone, given to its
 * user and group, then opened to them. Either side of a connection may end before the other.
 *
 * @throws {@link FlotillaError} `invalid_argument` when the path is longer than the kernel takes.
 * @source containerd v2.3.4 pkg/sys/socket_unix.go `GetLocalListener`
 */
export async function listen(options: ListenOptions, onConnection: (socket: net.Socket) => void): Promise<net.Server> {
  const { socketPath, socketMode = socketModeDefault, owner, connectionsMax = connectionsMaxDefault } = options;
  if (Buffer.byteLength(socketPath) > socketPathBytesMax) {
    throw failure(
      ErrorKind.InvalidArgument,
      `${JSON.stringify(socketPath)}: unix socket path too long (> ${socketPathBytesMax})`,
    );
  }
  const passed = takePassedSocket(socketPath);
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    if (options.admit?.(socket) === false) {
      socket.destroy();
    } else {
      widenSendBuffer(socket, sendBufferBytes);
      onConnection(socket);
    }
  });
  server.maxConnections = connectionsMax;
  if (passed !== undefined) {
    server.listen({ fd: passed });
    await once(server, "listening");
    return server;
  }
  await mkdir(dirname(socketPath), { recursive: true, mode: directoryMode });
  await rm(socketPath, { force: true });
  await bind(server, socketPath);
  try {
    if (owner !== undefined) {
      await chown(socketPath, owner.uid, owner.gid);
    }
    await chmod(socketPath, socketMode);
  } catch (error) {
    server.close();
    throw error;
  }
  return server;
}

/** Binding happens within the call of `listen`, so the file mode mask holds for the socket and for nothing else. */
async function bind(server: net.Server, socketPath: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  const mask = process.umask(ownerOnly);
  try {
    server.listen(socketPath, resolve);
  } finally {
    process.umask(mask);
  }
  await promise;
  server.off("error", reject);
}
