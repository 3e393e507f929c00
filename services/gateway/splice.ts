import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { heldCallMsMax } from "#base/limits.ts";

const retryDelayMs = 25;
const connectionsMax = 4096;

/**
 * Opens a listener's handler that joins each connection, byte for byte, to a new one on another socket. While nobody listens there, a
 * connection waits, bounded, and is then closed.
 */
export function spliceTo(socketPath: string): (client: net.Socket) => void {
  let openConnections = 0;
  return (client) => {
    client.on("error", () => client.destroy());
    if (openConnections >= connectionsMax) {
      client.destroy();
      return;
    }
    openConnections++;
    client.once("close", () => {
      openConnections--;
    });
    join(client, socketPath).catch(() => client.destroy());
  };
}

async function join(client: net.Socket, socketPath: string): Promise<void> {
  const server = await connectHeld(client, socketPath);
  server.on("error", () => server.destroy());
  server.once("close", () => client.destroy());
  client.once("close", () => server.destroy());
  if (client.destroyed) {
    server.destroy();
  }
  client.pipe(server);
  server.pipe(client);
}

async function connectHeld(client: net.Socket, socketPath: string): Promise<net.Socket> {
  const deadline = performance.now() + heldCallMsMax;
  for (;;) {
    try {
      return await connectOnce(socketPath);
    } catch (error) {
      if (client.destroyed || performance.now() > deadline) {
        throw error;
      }
      await delay(retryDelayMs);
    }
  }
}

function connectOnce(socketPath: string): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path: socketPath, allowHalfOpen: true });
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
  });
}
