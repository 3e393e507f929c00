import { once } from "node:events";
import { chmod, chown, mkdir, rm } from "node:fs/promises";
import net from "node:net";
import { dirname } from "node:path";
import { ErrorKind, failure } from "#base/errors.ts";
import { socketPathBytesMax } from "#base/limits.ts";
import type { ListenerConfig } from "#config/config.ts";

const socketMode = 0o660;
const ownerOnly = 0o177;
/** More clients than a machine has; each costs memory. */
const connectionsMax = 4096;

/**
 * Listens on a public Unix socket. The socket never is more open than its final mode: it is made for its owner alone, given to its
 * user and group, then opened to them.
 *
 * @throws {@link FlotillaError} `invalid_argument` when the path is longer than the kernel takes.
 * @source containerd v2.3.4 pkg/sys/socket_unix.go `GetLocalListener`
 */
export async function listenPublic(
  { address, uid, gid }: ListenerConfig,
  onConnection: (socket: net.Socket) => void,
): Promise<net.Server> {
  if (Buffer.byteLength(address) > socketPathBytesMax) {
    throw failure(
      ErrorKind.InvalidArgument,
      `${JSON.stringify(address)}: unix socket path too long (> ${socketPathBytesMax})`,
    );
  }
  await mkdir(dirname(address), { recursive: true, mode: 0o770 });
  await rm(address, { force: true });
  const server = net.createServer({ allowHalfOpen: true }, onConnection);
  server.maxConnections = connectionsMax;
  const previousMask = process.umask(ownerOnly);
  try {
    const listening = once(server, "listening");
    server.listen(address);
    await listening;
  } finally {
    process.umask(previousMask);
  }
  try {
    await chown(address, uid, gid);
    await chmod(address, socketMode);
  } catch (error) {
    server.close();
    throw error;
  }
  return server;
}
