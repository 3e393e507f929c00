import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { aborted } from "#base/aborted.ts";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { pluginUri } from "#config/manifest.ts";
import { describePlugin } from "#fleet/plugin.ts";
import { type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import type { Plugin, PluginInfoRequest } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { DescribeResponseSchema, Member as MemberService } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { pluginsByProcess } from "../plugins.ts";

/** The plugins of a process that does not run yet, as they will be if nothing goes wrong; disabled ones left out. */
export function promisedPlugins(name: ProcessName, { disabledPlugins }: FleetConfig): Plugin[] {
  return pluginsByProcess[name]
    .filter((manifest) => !disabledPlugins.includes(pluginUri(manifest)))
    .map((manifest) => describePlugin(manifest));
}

/** How long a process may take to come up: its records and containers may be many, and the machine busy. */
const readyMsMax = 60_000;

/** Waits until a child has told which plugins it carries, which it does when it serves. */
export async function readDescription(
  name: ProcessName,
  told: Promise<Buffer>,
  signal: AbortSignal,
): Promise<Plugin[]> {
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
