import { closeSync } from "node:fs";
import net from "node:net";
import { ErrorKind, errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { openSocketInNamespace } from "#linux/network-namespace.ts";
import type { PortStream } from "./stream-runtime.ts";

/** How long a port may take to answer, in ms. */
const connectMsMax = 30_000;
/** How long one direction may stay silent once the other has ended, in ms. */
const halfClosedMsMax = 60_000;

/** Where a port is. */
export interface PodPort {
  readonly podId: string;
  /** Network namespace of the pod; "" for the host's. */
  readonly netnsPath: string;
  readonly port: number;
}

/**
 * Connects to a port on the loopback of a pod, and hands on bytes until both sides have ended, or the client has gone.
 *
 * @param signal - The client has gone.
 * @throws {@link FlotillaError} `unknown` when nobody listens there, neither on IPv4 nor on IPv6; when the connection breaks.
 * @source containerd v2.3.4 internal/cri/server/sandbox_portforward_linux.go `portForward`
 */
export async function forwardPort(target: PodPort, stream: PortStream, signal: AbortSignal): Promise<void> {
  try {
    await exchange(await connect(target), stream, signal);
  } catch (error) {
    const place = target.netnsPath === "" ? "host" : target.netnsPath;
    throw wrapFailure(error, `failed to execute portforward in network namespace "${place}"`);
  }
}

async function connect({ podId, netnsPath, port }: PodPort): Promise<net.Socket> {
  const reasons: string[] = [];
  for (const [family, host] of [
    ["ipv4", "127.0.0.1"],
    ["ipv6", "::1"],
  ] as const) {
    try {
      return await connected(socketIn(netnsPath, family), { host, port });
    } catch (error) {
      reasons.push(errorMessage(error));
    }
  }
  throw new FlotillaError(
    ErrorKind.Unknown,
    `failed to connect to localhost:${port} inside namespace "${podId}", IPv4: ${reasons[0]} IPv6 ${reasons[1]} `,
  );
}

function socketIn(netnsPath: string, family: "ipv4" | "ipv6"): net.Socket {
  if (netnsPath === "") {
    return new net.Socket({ allowHalfOpen: true });
  }
  const fd = openSocketInNamespace(netnsPath, family);
  try {
    return new net.Socket(unconnected(fd));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** A socket that is not read before it is connected, which the types of Node.js do not know of. */
function unconnected(fd: number): net.SocketConstructorOpts & { readonly manualStart: true } {
  return { fd, allowHalfOpen: true, manualStart: true };
}

async function connected(
  socket: net.Socket,
  place: { readonly host: string; readonly port: number },
): Promise<net.Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.setTimeout(connectMsMax, () => socket.destroy(new Error("connection timed out")));
  socket.once("error", reject);
  socket.connect(place, resolve);
  try {
    await promise;
  } catch (error) {
    socket.destroy();
    throw error;
  }
  socket.setTimeout(0);
  socket.off("error", reject);
  return socket;
}

async function exchange(socket: net.Socket, stream: PortStream, signal: AbortSignal): Promise<void> {
  let failure: Error | undefined;
  socket.on("error", (error) => {
    failure = error;
  });
  const onAbort = (): void => void socket.destroy();
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) {
    onAbort();
  }
  const endHalf = (): void => void socket.setTimeout(halfClosedMsMax, () => socket.destroy());
  const toPod = sendAll(socket, stream).then(endHalf);
  const fromPod = takeAll(socket, stream).then(endHalf);
  try {
    await fromPod;
    // The pod has ended its side. What the client still sends goes on, unless the connection is gone altogether.
    await Promise.race([toPod, closed(socket)]);
  } finally {
    signal.removeEventListener("abort", onAbort);
    socket.destroy();
  }
  if (failure !== undefined && !signal.aborted) {
    throw failure;
  }
}

async function sendAll(socket: net.Socket, stream: PortStream): Promise<void> {
  for await (const bytes of stream.bytes) {
    if (socket.destroyed) {
      return;
    }
    if (!socket.write(bytes)) {
      await drainedOrClosed(socket);
    }
  }
  socket.end();
}

async function takeAll(socket: net.Socket, stream: PortStream): Promise<void> {
  try {
    for await (const bytes of socket) {
      await stream.write(bytes as Uint8Array);
    }
  } catch {
    // The connection broke, of which its error tells, or the client takes no more.
    socket.destroy();
  }
  await stream.end();
}

async function drainedOrClosed(socket: net.Socket): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("drain", resolve).once("close", resolve);
  if (socket.destroyed) {
    resolve();
  }
  await promise;
  socket.off("drain", resolve).off("close", resolve);
}

async function closed(socket: net.Socket): Promise<void> {
  if (!socket.destroyed) {
    await new Promise<void>((resolve) => {
      socket.once("close", () => resolve());
    });
  }
}
