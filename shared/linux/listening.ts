import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { systemErrorCode } from "#base/errors.ts";

/** State of a TCP socket that listens. @source include/net/tcp_states.h `TCP_LISTEN` */
const listenState = "0A";

/**
 * Tells whether a process itself listens on a TCP port of 127.0.0.1. As long as it does, nobody else can, so who connects to the port meets
 * this process.
 *
 * @returns False also when the process is gone or belongs to somebody whose descriptors may not be looked at.
 * @source proc(5) `/proc/net/tcp`, `/proc/[pid]/fd`
 */
export function isListening(pid: number, port: number): boolean {
  const address = `0100007F:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const inodes = new Set(
    readFileSync("/proc/self/net/tcp", "latin1")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter(([, local, , state]) => local === address && state === listenState)
      .map((fields) => `socket:[${fields[9]}]`),
  );
  return inodes.size > 0 && descriptorsOf(pid).some((target) => inodes.has(target));
}

/** What the descriptors of a process lead to. */
function descriptorsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((name) => targetOf(`/proc/${pid}/fd/${name}`) ?? []);
  } catch (error) {
    return nothingIfHidden(error) ?? [];
  }
}

function targetOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    return nothingIfHidden(error);
  }
}

function nothingIfHidden(error: unknown): undefined {
  if (!["ENOENT", "ESRCH", "EACCES", "EPERM"].includes(systemErrorCode(error) ?? "")) {
    throw error;
  }
}
