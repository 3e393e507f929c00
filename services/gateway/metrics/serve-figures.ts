import type { FleetConfig } from "#config/config.ts";
import type { Logger } from "#fleet/log.ts";
import type { CallCounts } from "#fleet/metrics/call-counts.ts";
import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import { ProcessFigures } from "#fleet/metrics/process-figures.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import type { MemberState } from "#fleet/supervisor.ts";
import { daemonRevision, daemonVersion } from "#fleet/version.ts";
import type { RelayCounts } from "../relay/relay-counts.ts";
import { FleetFigures } from "./fleet-figures.ts";
import { serveMetrics } from "./metrics-server.ts";

export interface FiguresOptions {
  readonly config: FleetConfig;
  readonly log: Logger;
  /** Gets what has to be closed. */
  readonly resources: AsyncDisposableStack;
  readonly processes: readonly ProcessName[];
  readonly members: () => readonly MemberState[];
  readonly relay: RelayCounts;
  /** The calls that the gateway itself answers. */
  readonly calls: CallCounts | undefined;
}

/** Serves the figures of the fleet to Prometheus. @throws what {@link serveMetrics} throws. */
export async function serveFigures(options: FiguresOptions): Promise<void> {
  const { config, log, resources, processes, members, relay, calls } = options;
  const gateway = resources.use(new ProcessFigures("gateway"));
  const figures = resources.use(
    new FleetFigures({
      state: config.state,
      processes,
      log,
      members,
      own: () => [buildInfo(), ...gateway.families(), ...relay.families(), ...(calls?.families() ?? [])],
    }),
  );
  const server = await serveMetrics({ address: config.metrics.address, log, text: () => figures.text() });
  resources.defer(() => {
    server.closeAllConnections();
    server.close();
  });
}

/** @source containerd v2.3.4 core/metrics/metrics.go `init` */
function buildInfo(): MetricFamily {
  const labels = { revision: daemonRevision(), version: daemonVersion() };
  return new FamilyBuilder("counter", "containerd_build_info_total", "containerd build information").add(labels, 1);
}
