/** Names the socket, the process title, the log field and the folder under `services/`. */
export type ProcessName = "gateway" | "events" | "metadata" | "content" | "snapshots" | "tasks" | "transfer";

/** The socket on which a process serves the fleet. */
export function socketOf(stateDirectory: string, process: ProcessName): string {
  return `${stateDirectory}/${process}.sock`;
}
