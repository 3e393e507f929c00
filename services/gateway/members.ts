import { fileURLToPath } from "node:url";
import type { FleetConfig } from "#config/config.ts";
import { type DaemonFlags, formatDaemonFlags } from "#config/flags.ts";
import { confinementOf } from "#fleet/confinement.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { programUrl } from "#fleet/program.ts";
import { idleVariable, isEnabled, onDemandProcesses, startups } from "#fleet/startup.ts";
import type { Member } from "#fleet/supervisor.ts";
import { type FleetUsers, formatUsers, usersVariable } from "#fleet/users.ts";
import type { Plugin } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { codeDirectory } from "./compiled-code.ts";
import { prepareDirectories } from "./directories.ts";

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
  readonly config: FleetConfig;
  readonly users: FleetUsers;
  /** Flags of the daemon, passed on, so that every process reads the same configuration. */
  readonly flags: DaemonFlags;
  /** Told which plugins the process carries, each time that it has become ready. */
  readonly onReady: (name: ProcessName, plugins: readonly Plugin[]) => Promise<void>;
}

/** How the gateway runs a process of the fleet: with its own Node.js, environment and flags, and with the rights of that process. */
export function fleetMember(
  name: Exclude<ProcessName, "gateway">,
  { config, users, flags, idleMs, onReady }: FleetMemberOptions,
): Member {
  const code = codeDirectory(config, name, users);
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
    env: {
      [usersVariable]: formatUsers(users),
      ...(onDemandProcesses.has(name) ? { [idleVariable]: String(idleMs) } : {}),
      ...code?.env,
    },
    confinement: confinementOf(name, users),
    prepare: async () => {
      await prepareDirectories(config, name, users);
      await code?.make();
    },
    awaitReady: async (signal, told) => {
      const { readDescription } = await import("./descriptions.ts");
      await onReady(name, await readDescription(name, told, signal));
    },
  };
}
