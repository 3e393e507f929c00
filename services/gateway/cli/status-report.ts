import { createClient, type Transport } from "@connectrpc/connect";
import { errorMessage } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { pluginUri } from "#config/manifest.ts";
import { isSkipped } from "#fleet/plugin.ts";
import { type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Fleet, Member, type MetricFamily, type ProcessStatus } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc } from "#wire/client.ts";

/** How long a process may take to tell of itself. */
const askMsMax = 5_000;

/** How a process is. */
export interface ProcessReport {
  readonly name: string;
  /** `serving`; `not-serving` when it says so itself; `idle` when it runs on demand and nobody calls it; `on-demand` when a
   * service manager runs it when somebody calls it; `away` when it does not answer; `given-up`. */
  readonly health: "serving" | "not-serving" | "idle" | "on-demand" | "away" | "given-up";
  /** Null when it does not run, or a service manager runs it. */
  readonly pid: number | null;
  /** Null when a service manager counts them. */
  readonly restarts: number | null;
  readonly residentBytes: number | null;
  /** When it was started, in milliseconds since 1970. */
  readonly startedMs: number | null;
  /** Calls of clients under way. */
  readonly calls: number;
}

/** How the fleet is. */
export interface StatusReport {
  readonly processes: readonly ProcessReport[];
  readonly events: {
    /** Records' events that wait to be published, and for how long the oldest does. */
    readonly waiting: number | null;
    readonly waitingSeconds: number | null;
    /** How many events the slowest subscriber is behind. */
    readonly lag: number | null;
    readonly subscribers: number | null;
  };
  readonly relay: {
    readonly connections: number;
    readonly held: number;
    readonly replayed: number;
    readonly refused: number;
  };
  /** Plugins that have failed, and why. Those that were skipped are not among them. */
  readonly failedPlugins: readonly { readonly plugin: string; readonly reason: string }[];
}

/**
 * Asks the gateway, and each process itself, how they are. A process on demand is not started to be asked.
 *
 * @throws {@link FlotillaError} `unavailable` when no daemon runs on these directories.
 */
export async function readStatus(config: FleetConfig): Promise<StatusReport> {
  const status = await ask(privateSocketOf(config.state, "gateway"), (transport) =>
    createClient(Fleet, transport).status({}, { timeoutMs: askMsMax }),
  );
  const told = await Promise.all(status.processes.map((process) => readProcess(config, process)));
  const figures = new Map(told.flatMap(({ families }) => families).flatMap(valuesOf));
  const figure = (name: string): number | null => figures.get(name) ?? null;
  const { gateway } = status;
  return {
    processes: [
      {
        name: "gateway",
        health: "serving",
        pid: gateway?.pid ?? null,
        restarts: null,
        residentBytes: Number(gateway?.residentBytes ?? 0),
        startedMs: Number(gateway?.startedMs ?? 0),
        calls: 0,
      },
      ...told.map(({ report }) => report),
    ],
    events: {
      waiting: figure("flotilla_outbox_events"),
      waitingSeconds: figure("flotilla_outbox_oldest_seconds"),
      lag: figure("flotilla_events_lag"),
      subscribers: figure("flotilla_events_subscribers"),
    },
    relay: {
      connections: status.connections,
      held: Number(status.held),
      replayed: Number(status.replayed),
      refused: Number(status.refused),
    },
    failedPlugins: await readFailures(config),
  };
}

interface Told {
  readonly report: ProcessReport;
  readonly families: readonly MetricFamily[];
}

async function readProcess(config: FleetConfig, status: ProcessStatus): Promise<Told> {
  const { name, pid, restarts, givenUp, onDemand, calls, supervised } = status;
  const known = {
    name,
    pid: pid === 0 ? null : pid,
    restarts: supervised ? restarts : null,
    calls,
  };
  const absent = (health: ProcessReport["health"]): Told => ({
    report: { ...known, health, residentBytes: null, startedMs: null },
    families: [],
  });
  // Its socket would start it where a service manager has it.
  if (givenUp || (onDemand && pid === 0)) {
    return absent(givenUp ? "given-up" : supervised ? "idle" : "on-demand");
  }
  try {
    return await ask(privateSocketOf(config.state, name as ProcessName), async (transport) => {
      const options = { timeoutMs: askMsMax };
      const [{ status: health }, { families }] = await Promise.all([
        createClient(Health, transport).check({}, options),
        createClient(Member, transport).measure({}, options),
      ]);
      const figures = new Map(families.flatMap(valuesOf));
      const startedSeconds = figures.get("flotilla_process_start_time_seconds");
      return {
        report: {
          ...known,
          health: health === ServingStatus.SERVING ? "serving" : "not-serving",
          residentBytes: figures.get("flotilla_process_resident_memory_bytes") ?? null,
          startedMs: startedSeconds === undefined ? null : Math.round(startedSeconds * 1000),
        },
        families,
      };
    });
  } catch {
    return absent("away");
  }
}

/** The first value of a family, by its name; that of a process is the only one. */
function valuesOf({ name, values }: MetricFamily): [string, number][] {
  const [first] = values;
  return first === undefined ? [] : [[name, first]];
}

async function readFailures(config: FleetConfig): Promise<StatusReport["failedPlugins"]> {
  try {
    const { plugins } = await ask(config.grpc.address, (transport) =>
      createClient(Introspection, transport).plugins({}, { timeoutMs: askMsMax }),
    );
    return plugins
      .filter(({ initErr }) => initErr !== undefined && !isSkipped(initErr.message))
      .map((plugin) => ({ plugin: pluginUri(plugin), reason: plugin.initErr?.message ?? "" }));
  } catch (error) {
    return [{ plugin: "io.containerd.grpc.v1.introspection", reason: errorMessage(error) }];
  }
}

async function ask<T>(socketPath: string, question: (transport: Transport) => Promise<T>): Promise<T> {
  // Who is not there is said not to be there.
  const connection = connectRpc(socketPath, { heldMsMax: 0 });
  try {
    return await question(connection.transport);
  } finally {
    connection.close();
  }
}
