import type { FleetConfig } from "#config/config.ts";
import type { Logger } from "#fleet/log.ts";
import type { Tracer } from "#fleet/tracing/tracer.ts";
import { memberNames } from "../members.ts";
import { TraceCollector } from "./trace-collector.ts";
import { TraceExport, type TraceExporter } from "./trace-export.ts";

export interface SendTracesOptions {
  readonly config: FleetConfig;
  readonly log: Logger;
  readonly tracer: Tracer;
  readonly exporter: TraceExporter;
  /** Gets what has to be closed. */
  readonly resources: AsyncDisposableStack;
}

/** Sends what all processes trace to the collector that the environment names, for as long as the gateway runs. */
export function sendTraces({ config, log, tracer, exporter, resources }: SendTracesOptions): void {
  const traces = resources.use(new TraceExport(exporter, process.env, log));
  resources.use(
    new TraceCollector({
      state: config.state,
      processes: memberNames(config.disabledPlugins),
      tracer,
      onSpans: (name, spans) => traces.add(name, spans),
    }),
  );
}
