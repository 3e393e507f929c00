/** Names the sockets, the process title, the log field and the folder under `services/`. */
export type ProcessName = "gateway" | "events" | "metadata" | "content" | "snapshots" | "tasks" | "transfer" | "cri";

/** The two sockets of a process: what clients may call, by way of the gateway; and that and the private services, for its peers. */
export type SocketSide = "public" | "private";

/** Where a process keeps its sockets, and whatever else need not outlive the daemon; nobody else writes there. */
export function stateDirectoryOf(stateDirectory: string, process: ProcessName): string {
  return `${stateDirectory}/${process}`;
}

/** The socket to which the gateway relays the calls of clients. */
export function publicSocketOf(stateDirectory: string, process: ProcessName): string {
  return `${stateDirectoryOf(stateDirectory, process)}/public.sock`;
}

/** The socket on which a process serves the peers that `rights.ts` names. */
export function privateSocketOf(stateDirectory: string, process: ProcessName): string {
  return `${stateDirectoryOf(stateDirectory, process)}/private.sock`;
}

/** The socket on which the events process takes what shims tell, by way of the gateway. */
export function shimEventsSocketOf(stateDirectory: string): string {
  return `${stateDirectoryOf(stateDirectory, "events")}/ttrpc.sock`;
}
