import { encodeLabels, FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import { DurationHistogram } from "#fleet/metrics/histogram.ts";
import { NriMetrics } from "./nri-metrics.ts";

interface Family {
  readonly help: string;
  /** Name of its one label; undefined for a family with a single series, which is there from the beginning. */
  readonly label?: string;
}

/**
 * Durations of what has gone well, by their names without what all have in common.
 *
 * @source containerd v2.3.4 internal/cri/server/metrics.go; docker/go-metrics v0.0.1 timer.go (the unit behind each name)
 */
const timers = {
  sandbox_list: { help: "time to list sandboxes" },
  sandbox_create_network: { help: "time to create the network for a sandbox" },
  sandbox_delete_network: { help: "time to delete a sandbox's network" },
  sandbox_runtime_create: { help: "time to create a sandbox in the runtime", label: "runtime" },
  sandbox_runtime_stop: { help: "time to stop a sandbox", label: "runtime" },
  sandbox_remove: { help: "time to remove a sandbox", label: "runtime" },
  container_list: { help: "time to list containers" },
  container_remove: { help: "time to remove a container", label: "runtime" },
  container_create: { help: "time to create a container", label: "runtime" },
  container_stop: { help: "time to stop a container", label: "runtime" },
  container_start: { help: "time to start a container", label: "runtime" },
  container_checkpoint: { help: "time to checkpoint a container", label: "runtime" },
  network_plugin_operations_duration_seconds: {
    help: "latency in seconds of network plugin operations. Broken down by operation type",
    label: "operation_type",
  },
} as const satisfies Readonly<Record<string, Family>>;

const counters = {
  network_plugin_operations_total: {
    help: "cumulative number of network plugin operations by operation type",
    label: "operation_type",
  },
  network_plugin_operations_errors_total: {
    help: "cumulative number of network plugin operations by operation type",
    label: "operation_type",
  },
} as const satisfies Readonly<Record<string, Family>>;

/** Operations on networks of pods. @source containerd v2.3.4 internal/cri/server/metrics.go, for the kubelet's metrics of old */
export type NetworkOperation = "get_pod_network_status" | "set_up_pod" | "tear_down_pod";

/** What takes time. */
export type TimerName = keyof typeof timers;
type CounterName = keyof typeof counters;

const prefix = "containerd_cri_";

/** How pods and containers fare, under the names of containerd. */
export class CriMetrics {
  readonly nri = new NriMetrics();
  readonly #durations = new Map<TimerName, Map<string, DurationHistogram>>();
  readonly #counts = new Map<CounterName, Map<string, number>>();
  /** Events for the kubelet that nobody took. */
  #droppedEvents: () => number = () => 0;

  /** Notes how long something took that has gone well. @param label - Value of the family's label, if it has one. */
  took(name: TimerName, sinceMs: number, label = ""): void {
    const series = this.#durations.get(name) ?? new Map<string, DurationHistogram>();
    this.#durations.set(name, series);
    const durations = series.get(label) ?? new DurationHistogram();
    series.set(label, durations);
    durations.observe((performance.now() - sinceMs) / 1000);
  }

  /** Does something, and notes how long it took if it went well. */
  async timed<T>(name: TimerName, label: string, act: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    const result = await act();
    this.took(name, startedMs, label);
    return result;
  }

  /** Does something with the networks of a pod: it is counted, and so is its failure. */
  async network<T>(operation: NetworkOperation, act: () => Promise<T>): Promise<T> {
    const startedMs = performance.now();
    try {
      return await act();
    } catch (error) {
      this.#count("network_plugin_operations_errors_total", operation);
      throw error;
    } finally {
      this.#count("network_plugin_operations_total", operation);
      this.took("network_plugin_operations_duration_seconds", startedMs, operation);
    }
  }

  /** Says where the number of events is to be had that nobody took. */
  watchEvents(dropped: () => number): void {
    this.#droppedEvents = dropped;
  }

  families(): MetricFamily[] {
    return [
      ...Object.entries(timers).map(([name, family]) => this.#timer(name as TimerName, family)),
      ...Object.entries(counters).map(([name, { help, label }]) => {
        const built = new FamilyBuilder("counter", `${prefix}${name}_total`, help);
        for (const [value, count] of this.#counts.get(name as CounterName) ?? []) {
          built.add({ [label]: value }, count);
        }
        return built;
      }),
      new FamilyBuilder(
        "counter",
        `${prefix}container_events_dropped_total`,
        "count container discarding event total from server start",
      ).add({}, this.#droppedEvents()),
      ...this.nri.families(),
    ];
  }

  #timer(name: TimerName, { help, label }: Family): MetricFamily {
    const built = new FamilyBuilder("histogram", `${prefix}${name}_seconds`, help);
    const series = this.#durations.get(name) ?? new Map<string, DurationHistogram>();
    if (label === undefined) {
      (series.get("") ?? new DurationHistogram()).addTo(built, "");
    } else {
      for (const [value, durations] of series) {
        durations.addTo(built, encodeLabels({ [label]: value }));
      }
    }
    return built;
  }

  #count(name: CounterName, label: string): void {
    const series = this.#counts.get(name) ?? new Map<string, number>();
    this.#counts.set(name, series);
    series.set(label, (series.get(label) ?? 0) + 1);
  }
}
