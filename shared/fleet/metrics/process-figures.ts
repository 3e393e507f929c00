import { readdirSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { FamilyBuilder, type MetricFamily } from "./family.ts";

const nanosecondsPerSecond = 1e9;
/** Time between two looks at how late the event loop is. Seldom, since each wakes the process. */
const probeMs = 250;
const quantiles = [0.5, 0.99] as const;

/** What a process costs the machine, and how late its event loop is. */
export class ProcessFigures implements Disposable {
  readonly #process: string;
  readonly #delay: ReturnType<typeof monitorEventLoopDelay>;

  constructor(process: string) {
    this.#process = process;
    this.#delay = monitorEventLoopDelay({ resolution: probeMs });
    this.#delay.enable();
  }

  [Symbol.dispose](): void {
    this.#delay.disable();
  }

  /** The figures now. Delays are those since this was called last. */
  families(): MetricFamily[] {
    const labels = { process: this.#process };
    const { heapUsed, external, rss } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    return [
      new FamilyBuilder("gauge", "flotilla_process_resident_memory_bytes", "Resident memory of a process.").add(
        labels,
        rss,
      ),
      new FamilyBuilder("gauge", "flotilla_process_heap_bytes", "Memory of a process that objects use, and buffers.")
        .add({ ...labels, kind: "objects" }, heapUsed)
        .add({ ...labels, kind: "external" }, external),
      new FamilyBuilder("counter", "flotilla_process_cpu_seconds_total", "Time of processors that a process has taken.")
        .add({ ...labels, mode: "user" }, user / 1e6)
        .add({ ...labels, mode: "system" }, system / 1e6),
      new FamilyBuilder("gauge", "flotilla_process_open_fds", "Open file descriptors of a process.").add(
        labels,
        readdirSync("/proc/self/fd").length,
      ),
      new FamilyBuilder(
        "gauge",
        "flotilla_process_start_time_seconds",
        "When a process was started, in seconds since 1970.",
      ).add(labels, performance.timeOrigin / 1000),
      this.#delays(),
    ];
  }

  #delays(): MetricFamily {
    const family = new FamilyBuilder(
      "gauge",
      "flotilla_process_event_loop_delay_seconds",
      "How late the event loop of a process came to what it had to do, since the scrape before: quantiles; 1 is the longest.",
    );
    const process = this.#process;
    const isEmpty = this.#delay.count === 0;
    for (const quantile of quantiles) {
      const delayNs = isEmpty ? 0 : this.#delay.percentile(100 * quantile);
      family.add({ process, quantile: String(quantile) }, lateness(delayNs));
    }
    family.add({ process, quantile: "1" }, lateness(isEmpty ? 0 : this.#delay.max));
    this.#delay.reset();
    return family;
  }
}

/** The monitor tells the time between two looks. */
function lateness(intervalNs: number): number {
  return Math.max(0, intervalNs / nanosecondsPerSecond - probeMs / 1000);
}
