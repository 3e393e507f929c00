import { setTimeout as delay } from "node:timers/promises";
import { wallClock } from "#base/times.ts";
import { ContainerState } from "#gen/runtime/v1/api_pb.ts";
import type { CriSettings } from "../config.ts";
import type { Machine } from "../containers/machine.ts";
import type { Images } from "../images/images.ts";
import type { Container, ContainerTable } from "../store/container.ts";
import { hasHostNetwork, type Pod, type PodTable } from "../store/pod.ts";
import { type CgroupDetails, readDetails } from "./cgroup-details.ts";
import { readFigures } from "./cgroup-figures.ts";
import { type CgroupPlace, cgroupAt, cgroupOfProcess, readProcessorTime } from "./cgroup-place.ts";
import { readInterfaces } from "./network-figures.ts";
import type { ContainerFigures, WholePodFigures } from "./stats-messages.ts";
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
  /** Where the cgroups of running containers are: a container that is started has one from then on. */
  readonly #places = new WeakMap<Container, CgroupPlace>();
  #askedMs = Number.NEGATIVE_INFINITY;
  #isSampling = false;

  constructor(parts: StatsParts) {
    this.#parts = parts;
  }

  /** What a container takes. */
  async ofContainer(container: Container): Promise<ContainerFigures> {
    this.#noteAsked();
    const { images } = this.#parts;
    const place = await this.#placeOf(container);
    const cgroup = place && readFigures(place, wallClock());
    const { snapshotter } = container.facts;
    return {
      cgroup,
      rate: this.#rateOf(container.id, cgroup?.timestampNs, cgroup?.cpu?.totalNs),
      layer: images.usages.find(snapshotter, container.id),
      layerRoot: images.rootOf(snapshotter),
    };
  }

  /** What all of a pod takes: its cgroup, or the sum of its containers where it has none of its own. */
  async ofPod(pod: Pod, containers: readonly ContainerFigures[]): Promise<WholePodFigures> {
    this.#noteAsked();
    const place = await this.#placeOfPod(pod);
    const cgroup = (place && readFigures(place, wallClock())) ?? sumOf(containers.map((figures) => figures.cgroup));
    return {
      cgroup,
      rate: this.#rateOf(pod.id, cgroup?.timestampNs, cgroup?.cpu?.totalNs),
      interfaces: hasHostNetwork(pod.config) ? undefined : readInterfaces(pod.pid),
    };
  }

  /** What is told of a container where every metric is asked for; undefined for one that does not run. */
  async detailsOfContainer(container: Container): Promise<CgroupDetails | undefined> {
    const place = await this.#placeOf(container);
    return place && readDetails(place);
  }

  /** The same of a pod, which has a cgroup or is the sum of its containers. */
  async detailsOfPod(pod: Pod, containers: readonly (CgroupDetails | undefined)[]): Promise<CgroupDetails | undefined> {
    const place = await this.#placeOfPod(pod);
    return place === undefined ? sumOf(containers) : readDetails(place);
  }

  async #placeOf(container: Container): Promise<CgroupPlace | undefined> {
    if (container.state !== ContainerState.CONTAINER_RUNNING) {
      return undefined;
    }
    const { hasUnifiedCgroups } = await this.#parts.machine();
    const place = this.#places.get(container) ?? cgroupOfProcess(container.status.pid, hasUnifiedCgroups);
    if (place !== undefined) {
      this.#places.set(container, place);
    }
    return place;
  }

  async #placeOfPod({ config }: Pod): Promise<CgroupPlace | undefined> {
    const parent = config.linux?.cgroupParent ?? "";
    const { hasUnifiedCgroups } = await this.#parts.machine();
    return parent === "" ? undefined : cgroupAt(parent, hasUnifiedCgroups);
  }

  #rateOf(id: string, atNs: bigint | undefined, usedNs: bigint | undefined): bigint | undefined {
    return atNs === undefined || usedNs === undefined ? undefined : this.#rates.note(id, { atNs, usedNs });
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
    const note = (id: string, place: CgroupPlace | undefined) =>
      this.#rateOf(id, wallClock(), place && readProcessorTime(place));
    while (!stopping.aborted && performance.now() - this.#askedMs < settings.statsRetentionPeriodMs) {
      await delay(settings.statsCollectPeriodMs, undefined, { signal: stopping, ref: false }).catch(() => undefined);
      for (const container of containers.all()) {
        note(container.id, await this.#placeOf(container));
      }
      for (const pod of pods.all()) {
        note(pod.id, await this.#placeOfPod(pod));
      }
      this.#rates.keepOnly(new Set([...containers.all(), ...pods.all()].map(({ id }) => id)));
    }
  }
}

/** Figures of several cgroups together: their numbers are added, part by part, and times are those of the first. */
function sumOf<T extends object>(all: readonly (T | undefined)[]): T | undefined {
  return all.reduce(
    (sum, figures) => (sum === undefined || figures === undefined ? (sum ?? figures) : add(sum, figures)),
    undefined,
  );
}

/** Figures that are not added: when they were read, and limits. */
const notAdded: ReadonlySet<string> = new Set(["timestampNs", "threadsMax"]);

function add<T extends object>(one: T, other: T): T {
  const added = Object.entries(one).map(([key, value]) => {
    const more = (other as Readonly<Record<string, unknown>>)[key];
    if (typeof value === "bigint" && typeof more === "bigint" && !notAdded.has(key)) {
      return [key, value + more] as const;
    }
    const isPart = typeof value === "object" && typeof more === "object" && key !== "pressure";
    return [key, isPart ? add(value as object, more as object) : (value ?? more)] as const;
  });
  return Object.fromEntries(added) as T;
}
