import { Code } from "@connectrpc/connect";
import { encodeLabels, FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import { DurationHistogram } from "#fleet/metrics/histogram.ts";
import { failureOf } from "#wire/errors.ts";
import { isConnectionClosed } from "#wire/ttrpc/status.ts";

const prefix = "containerd_nri_";

/** What is counted of an answer that has it. */
interface Adjustments {
  readonly update?: readonly unknown[];
  readonly evict?: readonly unknown[];
}

/** How plugins of NRI fare, under the names of containerd. @source containerd v2.3.4 internal/nri/metrics.go */
export class NriMetrics {
  /** By their labels, as `encodeLabels` gives them. */
  readonly #invocations = new Map<string, number>();
  readonly #adjustments = new Map<string, number>();
  readonly #latencies = new Map<string, DurationHistogram>();
  #active: () => number = () => 0;

  /** Says where the number of plugins is to be had. */
  watchPlugins(active: () => number): void {
    this.#active = active;
  }

  /** Notes that a plugin has answered. @param operation - As the method that it was called by. */
  answered(plugin: string, operation: string, { startedMs, answer }: { startedMs: number; answer: object }): void {
    const { update = [], evict = [] } = answer as Adjustments;
    this.#invoked({ plugin, operation, status: "success", error: "" }, startedMs);
    for (const [type, { length }] of [
      ["update", update],
      ["evict", evict],
    ] as const) {
      if (length > 0) {
        add(this.#adjustments, encodeLabels({ plugin, operation, type }), length);
      }
    }
  }

  /** Notes that a plugin has failed, or has gone. */
  failed(plugin: string, operation: string, { startedMs, error }: { startedMs: number; error: unknown }): void {
    const labels = { plugin, operation, status: "error", error: typeOf(error) };
    this.#invoked(labels, startedMs);
  }

  families(): MetricFamily[] {
    const counter = (name: string, help: string, values: ReadonlyMap<string, number>): MetricFamily => {
      const family = new FamilyBuilder("counter", `${prefix}${name}_total`, help);
      for (const [labels, value] of values) {
        family.addEncoded(family.name, labels, value);
      }
      return family;
    };
    const latency = new FamilyBuilder("histogram", `${prefix}plugin_latency_seconds`, "NRI plugin operation latency");
    for (const [labels, durations] of this.#latencies) {
      durations.addTo(latency, labels);
    }
    return [
      counter("plugin_invocations", "Number of NRI plugin invocations", this.#invocations),
      counter("plugin_adjustments", "Number of adjustment operations from plugins", this.#adjustments),
      new FamilyBuilder("gauge", `${prefix}active_plugins_total`, "Number of currently active NRI plugins").add(
        {},
        this.#active(),
      ),
      latency,
    ];
  }

  #invoked(labels: { plugin: string; operation: string; status: string; error: string }, startedMs: number): void {
    const { plugin, operation } = labels;
    add(this.#invocations, encodeLabels(labels), 1);
    const key = encodeLabels({ plugin, operation });
    const durations = this.#latencies.get(key) ?? new DurationHistogram();
    this.#latencies.set(key, durations);
    durations.observe((performance.now() - startedMs) / 1000);
  }
}

function add(values: Map<string, number>, labels: string, value: number): void {
  values.set(labels, (values.get(labels) ?? 0) + value);
}

/** @source containerd v2.3.4 internal/nri/metrics.go `getErrorType` */
function typeOf(error: unknown): string {
  return isConnectionClosed(error)
    ? "other"
    : Code[failureOf(error).code].replace(/([a-z])([A-Z])/g, "$1_$2").toLowerCase();
}
