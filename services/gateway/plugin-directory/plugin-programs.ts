import { mkdir, rm } from "node:fs/promises";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { type FleetConfig, type ProxyPluginConfig, pluginRoot } from "#config/config.ts";
import type { PluginProgram } from "#config/plugin-manifest.ts";
import type { Logger } from "#fleet/log.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import { readProxyPlugins } from "#fleet/proxies/proxy-plugins.ts";
import { pluginSocketDirectory, registerPlugins } from "#fleet/proxies/registered-plugins.ts";
import { DeathRecord, defaultRestartPolicy } from "#fleet/restart-policy.ts";
import { type Member, Supervisor } from "#fleet/supervisor.ts";
import { type RefusedManifest, readPluginDirectory } from "./read-directory.ts";

/** What the directory `plugins` below the root directory has come to. */
export interface PluginPrograms {
  /** Manifests that nothing is run for. */
  readonly refused: readonly RefusedManifest[];
  /** Starts the programs and keeps them running, until the signal aborts. Resolves when all have ended. */
  run(stopping: AbortSignal): Promise<void>;
}

interface Registered {
  readonly name: string;
  readonly program: PluginProgram;
  readonly proxy: ProxyPluginConfig;
}

/**
 * Reads the plugin directory and tells the fleet of its plugins, each on a socket that its program is handed. The programs are not started yet.
 *
 * @param builtIn - All plugins that are built in, whose names are taken.
 */
export async function openPluginPrograms(
  config: FleetConfig,
  builtIn: readonly PluginManifest[],
  log: Logger,
): Promise<PluginPrograms> {
  const { programs, refused } = await readPluginDirectory(`${config.root}/plugins`);
  const taken: Registered[] = [];
  const allRefused = [...refused];
  for (const [name, program] of programs) {
    const proxy = proxyOf(config, name, program);
    const reason = refusalOf(config, builtIn, name, proxy);
    if (reason === undefined) {
      taken.push({ name, program, proxy });
    } else {
      allRefused.push({ name, reason });
    }
  }
  for (const { name, reason } of allRefused) {
    log.error({ plugin: name, err: reason }, "a manifest in the plugin directory is refused");
  }
  await registerPlugins(config, new Map(taken.map(({ name, proxy }) => [name, proxy])));
  return { refused: allRefused, run: (stopping) => runPrograms(config, taken, log, stopping) };
}

function proxyOf(config: FleetConfig, name: string, program: PluginProgram): ProxyPluginConfig {
  const { type, platform, exports, capabilities } = program;
  return { type, address: `${pluginSocketDirectory(config)}/${name}.sock`, platform, exports, capabilities };
}

/** Why a plugin cannot be had beside those that are there. */
function refusalOf(
  config: FleetConfig,
  builtIn: readonly PluginManifest[],
  name: string,
  proxy: ProxyPluginConfig,
): string | undefined {
  if (config.proxyPlugins.has(name)) {
    return `proxy_plugins.${name} of the configuration has this name`;
  }
  try {
    const { warnings } = readProxyPlugins({ ...config, proxyPlugins: new Map([[name, proxy]]) }, builtIn);
    return warnings[0];
  } catch (error) {
    return errorMessage(error);
  }
}

async function runPrograms(
  config: FleetConfig,
  plugins: readonly Registered[],
  log: Logger,
  stopping: AbortSignal,
): Promise<void> {
  const supervisor = new Supervisor({
    policy: defaultRestartPolicy,
    log,
    interrupted: stopping,
    // Its calls fail, and nothing else does.
    onFailed: (name) => log.error({ plugin: name }, "a plugin keeps dying and is not started again"),
  });
  await Promise.all(plugins.map((plugin) => keepStarting(supervisor, memberOf(config, plugin), log, stopping)));
  await new Promise<void>((resolve) => {
    if (stopping.aborted) {
      resolve();
    }
    stopping.addEventListener("abort", () => resolve(), { once: true });
  });
  await supervisor.stop();
}

/** A program that does not come up at first is tried again, as one that dies later is. */
async function keepStarting(supervisor: Supervisor, member: Member, log: Logger, stopping: AbortSignal): Promise<void> {
  const deaths = new DeathRecord(defaultRestartPolicy);
  while (!stopping.aborted) {
    try {
      await supervisor.start(member);
      log.info({ plugin: member.name }, "a plugin of the plugin directory serves");
      return;
    } catch (error) {
      const decision = deaths.add(0);
      if ("failed" in decision) {
        log.error({ plugin: member.name, err: error }, "a plugin does not come up and is not started again");
        return;
      }
      log.warn({ plugin: member.name, err: errorMessage(error) }, "a plugin does not come up, starting it again");
      await delay(decision.restartAfterMs, undefined, { signal: stopping }).catch(() => undefined);
    }
  }
}

/** How long a program may take until its socket takes connections. */
const readyMsMax = 30_000;
const pollMs = 50;

function memberOf(config: FleetConfig, { name, program, proxy }: Registered): Member {
  const socket = proxy.address;
  const root = pluginRoot(config, `io.flotilla.plugin.v1.${name}`);
  const fill = (text: string): string => text.replaceAll("{socket}", socket).replaceAll("{root}", root);
  return {
    name,
    command: program.path,
    args: program.args.map(fill),
    env: {
      ...Object.fromEntries(program.env.map((entry) => fill(entry).split(/=(.*)/s).slice(0, 2) as [string, string])),
      FLOTILLA_PLUGIN_SOCKET: socket,
      FLOTILLA_PLUGIN_ROOT: root,
      CONTAINERD_ADDRESS: config.grpc.address,
    },
    prepare: async () => {
      await mkdir(root, { recursive: true, mode: 0o700 });
      await rm(socket, { force: true });
    },
    awaitReady: async (signal) => {
      const overdue = AbortSignal.timeout(readyMsMax);
      while (!(await accepts(socket))) {
        signal.throwIfAborted();
        if (overdue.aborted) {
          throw failure(ErrorKind.DeadlineExceeded, `${name} does not serve ${socket} within ${readyMsMax} ms`);
        }
        await delay(pollMs);
      }
    },
  };
}

function accepts(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(socketPath);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
