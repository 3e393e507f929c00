import { fileURLToPath } from "node:url";
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { aborted } from "#base/aborted.ts";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { type DaemonFlags, formatDaemonFlags } from "#config/flags.ts";
import { pluginUri } from "#config/manifest.ts";
import { describePlugin } from "#fleet/plugin.ts";
import { onDemandProcesses, type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import { programUrl } from "#fleet/program.ts";
import type { Member } from "#fleet/supervisor.ts";
import { fleet } from "#fleet/topology.ts";
import { idleVariable } from "#fleet/wake.ts";
import type { Plugin, PluginInfoRequest } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { DescribeResponseSchema, Member as MemberService } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { pluginsByProcess } from "../plugins.ts";

/** The processes of the fleet besides the gateway itself, in an order in which each follows those that it needs. */
export function memberNames(): Exclude<ProcessName, "gateway">[] {
  const names: Exclude<ProcessName, "gateway">[] = [];
  const visit = (name: ProcessName): void => {
    const process = fleet.find((candidate) => candidate.name === name);
    process?.after.forEach(visit);
    if (name !== "gateway" && !names.includes(name)) {
      names.push(name);
    }
  };
  visit("gateway");
  return names;
}

/** The plugins of a process that does not run yet, as they will be if nothing goes wrong; disabled ones left out. */
export function promisedPlugins(name: ProcessName, { disabledPlugins }: FleetConfig): Plugin[] {
  return pluginsByProcess[name]
    .filter((manifest) => !disabledPlugins.includes(pluginUri(manifest)))
    .map((manifest) => describePlugin(manifest));
}

export interface FleetMemberOptions {
  /** After how long without calls a process on demand ends, in milliseconds; 0 for never. */
  readonly idleMs: number;
  /** Flags of the daemon, passed on, so that every process reads the same configuration. */
  readonly flags: DaemonFlags;
  /** Told which plugins the process carries, each time that it has become ready. */
  readonly onReady: (name: ProcessName, plugins: readonly Plugin[]) => void;
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
      ...(fleet.find((candidate) => candidate.name === name)?.nodeFlags ?? []),
      fileURLToPath(programUrl(`services/${name}/main.ts`)),
      ...formatDaemonFlags(flags),
    ],
    tells: true,
    ...(onDemandProcesses.has(name) ? { env: { [idleVariable]: String(idleMs) } } : {}),
    awaitReady: async (signal, told) => {
      onReady(name, await readDescription(name, told, signal));
    },
  };
}

/** How long a process may take to come up: its records and containers may be many, and the machine busy. */
const readyMsMax = 60_000;

/** Waits until a child has told which plugins it carries, which it does when it serves. */
async function readDescription(name: ProcessName, told: Promise<Buffer>, signal: AbortSignal): Promise<Plugin[]> {
  const overdue = AbortSignal.timeout(readyMsMax);
  const given = AbortSignal.any([signal, overdue]);
  const message = await Promise.race([told, aborted(given)]);
  if (message === undefined || message.length === 0) {
    signal.throwIfAborted();
    const why = overdue.aborted ? `is not ready within ${readyMsMax} ms` : "ended during its start";
    throw failure(ErrorKind.Unavailable, `process ${name} ${why}`);
  }
  return fromBinary(DescribeResponseSchema, message).plugins;
}

/** How long a plugin may take to tell about itself, which may take programs that it runs. */
const inspectMsMax = 20_000;

/**
 * Asks a process for what one of its plugins tells for options.
 *
 * @throws {@link FlotillaError} what the plugin says; `unavailable` or `deadline_exceeded` when it does not.
 */
export async function inspectPlugin(
  config: FleetConfig,
  name: ProcessName,
  { type, id, options }: PluginInfoRequest,
): Promise<Any | undefined> {
  const connection = connectRpc(privateSocketOf(config.state, name));
  try {
    const client = createClient(MemberService, connection.transport);
    return (
      await client.inspect({ type, id, ...(options === undefined ? {} : { options }) }, { timeoutMs: inspectMsMax })
    ).extra;
  } finally {
    connection.close();
  }
}

/**
 * Asks a process that is not a child which plugins it carries. Waits for the process to come up, up to a minute.
 *
 * @throws {@link FlotillaError} `unavailable` or `deadline_exceeded` when it does not come up, `canceled` when the signal aborts.
 */
export async function describeMember(config: FleetConfig, name: ProcessName, signal: AbortSignal): Promise<Plugin[]> {
  const connection = connectRpc(privateSocketOf(config.state, name));
  const client = createClient(MemberService, connection.transport);
  const deadline = performance.now() + readyMsMax;
  try {
    for (;;) {
      const timeoutMs = Math.max(1, deadline - performance.now());
      try {
        return (await client.describe({}, { signal, timeoutMs })).plugins;
      } catch (error) {
        if (!isFailure(error, ErrorKind.Unavailable) || signal.aborted || performance.now() > deadline) {
          throw error;
        }
      }
    }
  } finally {
    connection.close();
  }
}
