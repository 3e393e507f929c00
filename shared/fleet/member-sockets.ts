import type { ServiceBinding } from "#wire/handler.ts";
import { type CallObserver, observeAll } from "#wire/observe.ts";
import { type RpcServer, serveRpc } from "#wire/server.ts";
import { guardSocket } from "./admission.ts";
import type { Logger } from "./log.ts";
import { type ProcessName, privateSocketOf, publicSocketOf } from "./process-name.ts";
import { type FleetUsers, readUsers } from "./users.ts";

export interface MemberSocketsOptions {
  readonly state: string;
  readonly process: ProcessName;
  /** What clients may call, and what only peers may call. */
  readonly services: readonly ServiceBinding[];
  /** Served to peers alone, whatever they are called. */
  readonly ownServices: readonly ServiceBinding[];
  readonly log: Logger;
  readonly observer: CallObserver;
  /** Told of the calls of clients alone, besides. */
  readonly clientObserver?: CallObserver | undefined;
  readonly users?: FleetUsers;
}

/** The packages of `proto/flotilla`, which clients never see. */
const privatePackage = /^flotilla\./;

/** Those of the services that clients may call. */
export function publicServices(services: readonly ServiceBinding[]): ServiceBinding[] {
  return services.filter(({ service }) => !privatePackage.test(service.typeName));
}

/**
 * Serves a process on its two sockets. Public services stand on both, since peers call them as well; private ones on the private socket alone,
 * so that a client gets UNIMPLEMENTED for them.
 *
 * The public socket is there first: the gateway asks on the private one whether the process is ready.
 */
export async function serveMember(options: MemberSocketsOptions): Promise<RpcServer> {
  const { state, process, services, ownServices, log, observer, clientObserver, users = readUsers() } = options;
  const owner = socketOwner(users, process);
  const clients = await serveRpc({
    ...owner,
    socketPath: publicSocketOf(state, process),
    services: publicServices(services),
    admit: guardSocket({ process, side: "public", log, users }),
    observer: clientObserver === undefined ? observer : observeAll(observer, clientObserver),
  });
  try {
    const peers = await serveRpc({
      ...owner,
      socketPath: privateSocketOf(state, process),
      services: [...services, ...ownServices],
      admit: guardSocket({ process, side: "private", log, users }),
      observer,
    });
    return {
      calls: () => [...clients.calls(), ...peers.calls()],
      close: async (drainMs) => void (await Promise.all([clients.close(drainMs), peers.close(drainMs)])),
    };
  } catch (error) {
    await clients.close(0);
    throw error;
  }
}

/** Peers of other users come to a socket by the group that they share, and are then looked at. */
export function socketOwner(
  users: FleetUsers,
  process: ProcessName,
): { readonly owner?: { readonly uid: number; readonly gid: number } } {
  return users.gid === undefined ? {} : { owner: { uid: users.uidOf(process), gid: users.gid } };
}
