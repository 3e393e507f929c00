import { once } from "node:events";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

const headersFrame = 1;
const frameTypeAt = 3;
const retryMs = 20;

/** A way to the socket of a process on which answers can be kept back, as if the process had died before it sent them. */
export interface MuteWay extends AsyncDisposable {
  /** Where clients connect. */
  readonly socketPath: string;
  /** From now on nothing comes back. Resolves when an answer would have. */
  mute(): Promise<void>;
  /** What comes from now on comes back. New connections alone should be used. */
  unmute(): void;
}

/** Connects as soon as somebody listens. */
async function connect(socketPath: string): Promise<net.Socket> {
  for (;;) {
    const socket = net.connect(socketPath);
    try {
      await once(socket, "connect");
      return socket;
    } catch {
      await delay(retryMs);
    }
  }
}

/** Opens a way to a socket. */
export async function openMuteWay(processSocketPath: string): Promise<MuteWay> {
  const directory = await makeTemporaryDirectory("mute");
  const sockets = new Set<net.Socket>();
  let swallowed: (() => void) | undefined;
  const carry = (client: net.Socket, upstream: net.Socket): void => {
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    client.pipe(upstream);
    upstream.on("data", (chunk: Buffer) => {
      if (swallowed === undefined) {
        client.write(chunk);
      } else if (chunk[frameTypeAt] === headersFrame) {
        swallowed();
      }
    });
  };
  const server = net.createServer((client) => {
    void connect(processSocketPath).then((upstream) => carry(client, upstream));
  });
  const socketPath = `${directory.path}/way.sock`;
  server.listen(socketPath);
  await once(server, "listening");
  return {
    socketPath,
    mute: () =>
      new Promise((resolve) => {
        swallowed = resolve;
      }),
    unmute: () => {
      swallowed = undefined;
    },
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const socket of sockets) {
        socket.destroy();
      }
      await directory[Symbol.asyncDispose]();
    },
  };
}
