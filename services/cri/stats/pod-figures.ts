import { setTimeout as delay } from "node:timers/promises";
import { wallClock } from "#base/times.ts";
import { ContainerState } from "#gen/runtime/v1/api_pb.ts";
import type { CriSettings } from "../config.ts";
import type { Machine } from "../containers/machine.ts";
import type { Images } from "../images/images.ts";
import type { Container, ContainerTable } from "../store/container.ts";
import { hasHostNetwork, type Pod, type PodTable } from "../store/pod.ts";
import { type CgroupFigures, readFigures } from "./cgroup-figures.ts";
import { cgroupAt, cgroupOfProcess } from "./cgroup-place.ts";
import { type InterfaceFigures, readInterfaces } from "./network-figures.ts";
import type { ContainerFigures } from "./stats-messages.ts";
import { UsageRates } from "./usage-rates.ts";

export interface StatsParts {
  readonly settings: CriSettings;
  readonly images: Images;
  readonly pods: PodTable;
  readonly containers: ContainerTable;
  readonly machine: () => Promise<Machine>;
  readonly stopping: AbortSignal;
}

/**
 * Reads what pods and containers take, straight from the kernel: no process is asked. Rates are those between two looks; while somebody keeps asking, samples are taken in between, so that a
 * rate is of the last moments, and when nobody asks any more nothing is done.
 *
 * @source containerd v2.3.4 internal/cri/server/stats_collector.go
 */
export class Figures {
  readonly #parts: StatsParts;
  readonly #rates = new UsageRates();
  #askedMs = Number.NEGATIVE_INFINITY;
  #isSampling = false;

  constructor(parts: StatsParts) {
    this.#parts = parts;
  }

  /** What a container takes. */
  async ofContainer(container: Container): Promise<ContainerFigures> {
    this.#noteAsked();
    const { images } = this.#parts;
    const cgroup = await this.#cgroupOf(container);
    const { snapshotter } = container.facts;
    return {
      cgroup,
      rate: this.#rateOf(container.id, cgroup),
      layer: images.usages.find(snapshotter, container.id),
      layerRoot: images.rootOf(snapshotter),
    };
  }

  /** What all of a pod takes: its cgroup, or the sum of its containers where it has none of its own. */
  async ofPod(
    pod: Pod,
    containers: readonly ContainerFigures[],
  ): Promise<{
    readonly cgroup: CgroupFigures | undefined;
    readonly rate: bigint | undefined;
    readonly interfaces: readonly InterfaceFigures[] | undefined;
  }> {
    this.#noteAsked();
    const cgroup = (await this.#cgroupOfPod(pod)) ?? sumOf(containers.map((figures) => figures.cgroup));
    return {
      cgroup,
      rate: this.#rateOf(pod.id, cgroup),
      interfaces: hasHostNetwork(pod.config) ? undefined : readInterfaces(pod.pid),
    };
  }

  async #cgroupOf({ status, state }: Container): Promise<CgroupFigures | undefined> {
    if (state !== ContainerState.CONTAINER_RUNNING) {
      return undefined;
    }
    const { hasUnifiedCgroups } = await this.#parts.machine();
    const place = cgroupOfProcess(status.pid, hasUnifiedCgroups);
    return place && readFigures(place, wallClock());
  }

  async #cgroupOfPod({ config }: Pod): Promise<CgroupFigures | undefined> {
    const parent = config.linux?.cgroupParent ?? "";
    const { hasUnifiedCgroups } = await this.#parts.machine();
    return parent === "" ? undefined : readFigures(cgroupAt(parent, hasUnifiedCgroups), wallClock());
  }

  #rateOf(id: string, cgroup: CgroupFigures | undefined): bigint | undefined {
    return cgroup?.cpu === undefined
      ? undefined
      : this.#rates.note(id, { atNs: cgroup.timestampNs, usedNs: cgroup.cpu.totalNs });
  }

  #noteAsked(): void {
    this.#askedMs = performance.now();
    if (!this.#isSampling) {
      this.#isSampling = true;
      void this.#sample().finally(() => {
        this.#isSampling = false;
      });
    }
  }

  async #sample(): Promise<void> {
    const { settings, stopping, pods, containers } = this.#parts;
    while (!stopping.aborted && performance.now() - this.#askedMs < settings.statsRetentionPeriodMs) {
      await delay(settings.statsCollectPeriodMs, undefined, { signal: stopping, ref: false }).catch(() => undefined);
      for (const container of containers.all()) {
        this.#rateOf(container.id, await this.#cgroupOf(container));
      }
      for (const pod of pods.all()) {
        this.#rateOf(pod.id, await this.#cgroupOfPod(pod));
      }
      this.#rates.keepOnly(new Set([...containers.all(), ...pods.all()].map(({ id }) => id)));
    }
  }
}

/** The figures of several cgroups together. */
function sumOf(all: readonly (CgroupFigures | undefined)[]): CgroupFigures | undefined {
  return all.reduce(
    (sum, figures) => (sum === undefined || figures === undefined ? (sum ?? figures) : add(sum, figures)),
    undefined,
  );
}

function add(one: CgroupFigures, other: CgroupFigures): CgroupFigures {
  return {
    timestampNs: one.timestampNs,
    cpu: addNumbers(one.cpu, other.cpu),
    memory: addNumbers(one.memory, other.memory),
    processes: one.processes + other.processes,
    threadsMax: one.threadsMax,
  };
}

function addNumbers<T extends object>(one: T | undefined, other: T | undefined): T | undefined {
  if (one === undefined || other === undefined) {
    return one ?? other;
  }
  const added = Object.entries(one).map(([key, value]) => {
    const more = (other as Readonly<Record<string, unknown>>)[key];
    return [key, typeof value === "bigint" && typeof more === "bigint" ? value + more : value] as const;
  });
  return Object.fromEntries(added) as T;
}
