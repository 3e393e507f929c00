import { fileURLToPath } from "node:url";
import { type DaemonFlags, formatDaemonFlags } from "#config/flags.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { programUrl } from "#fleet/program.ts";
import { idleVariable, isEnabled, onDemandProcesses, startups } from "#fleet/startup.ts";
import type { Member } from "#fleet/supervisor.ts";
import type { Plugin } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";

/**
 * The processes of the fleet besides the gateway itself, in an order in which each follows those that it needs. Those that the configuration
 * has no use for are left out.
 */
export function memberNames(disabledPlugins: readonly string[]): Exclude<ProcessName, "gateway">[] {
  const names: Exclude<ProcessName, "gateway">[] = [];
  const visit = (name: ProcessName): void => {
    startups[name].after.forEach(visit);
    if (name !== "gateway" && !names.includes(name) && isEnabled(name, disabledPlugins)) {
      names.push(name);
    }
  };
  visit("gateway");
  return names;
}

export interface FleetMemberOptions {
  /** After how long without calls a process on demand ends, in milliseconds; 0 for never. */
  readonly idleMs: number;
  /** Flags of the daemon, passed on, so that every process reads the same configuration. */
  readonly flags: DaemonFlags;
  /** Told which plugins the process carries, each time that it has become ready. */
  readonly onReady: (name: ProcessName, plugins: readonly Plugin[]) => Promise<void>;
}

/** How the gateway runs a process of the fleet: with its own Node.js, environment and flags. */
export function fleetMember(
  name: Exclude<ProcessName, "gateway">,
  { flags, idleMs, onReady }: FleetMemberOptions,
): Member {
  return {
    name,
    command: process.execPath,
    args: [
      ...process.execArgv,
      ...(startups[name].nodeFlags ?? []),
      fileURLToPath(programUrl(`services/${name}/main.ts`)),
      ...formatDaemonFlags(flags),
    ],
    tells: true,
    ...(onDemandProcesses.has(name) ? { env: { [idleVariable]: String(idleMs) } } : {}),
    awaitReady: async (signal, told) => {
      const { readDescription } = await import("./descriptions.ts");
      await onReady(name, await readDescription(name, told, signal));
    },
  };
}
