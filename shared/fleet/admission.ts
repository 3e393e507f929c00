import type { Socket } from "node:net";
import { peerOf } from "#linux/socket.ts";
import type { Logger } from "./log.ts";
import type { ProcessName, SocketSide } from "./process-name.ts";
import { callersOf } from "./rights.ts";
import type { FleetUsers } from "./users.ts";

export interface AdmissionOptions {
  readonly process: ProcessName;
  readonly side: SocketSide;
  readonly log: Logger;
  readonly users: FleetUsers;
}

/**
 * Makes the guard of a socket, which lets those in that the table of rights names, by the user that the kernel noted when they connected.
 *
 * Process ids are not looked at. The kernel notes the one that connected, but who may pose as a process of a user may do anything to the processes of
 * that user; and an id can belong to another process by the time it is looked up.
 *
 * @returns A function that tells whether a connection is let in. One that is not is logged, and closing it is the caller's.
 * @source unix(7) `SO_PEERCRED`
 */
export function guardSocket({ process, side, log, users }: AdmissionOptions): (socket: Socket) => boolean {
  const allowed = new Set(callersOf(process, side).map((name) => users.uidOf(name)));
  return (socket) => {
    const { uid, pid } = peerOf(socket);
    if (!allowed.has(uid)) {
      log.warn({ uid, pid, socket: side }, "refused a connection of a user that the topology does not name");
    }
    return allowed.has(uid);
  };
}
