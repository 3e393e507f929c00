import { lstatSync } from "node:fs";
import { rm } from "node:fs/promises";
import net from "node:net";
import { systemErrorCode } from "#base/errors.ts";

/**
 * Removes the socket of a shim that was killed. What is no socket, or has somebody who listens, stays.
 *
 * @param address - As the shim said it.
 */
export async function removeDeadSocket(address: string): Promise<void> {
  const path = address.replace(/^unix:\/\//, "");
  if (path.startsWith("/") && isSocket(path) && !(await isListening(path))) {
    await rm(path, { force: true });
  }
}

function isSocket(path: string): boolean {
  try {
    return lstatSync(path).isSocket();
  } catch {
    return false;
  }
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error) => resolve(systemErrorCode(error) !== "ECONNREFUSED"));
  });
}
