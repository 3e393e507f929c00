import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import {
  ContainerStatsSchema,
  type CpuUsageSchema,
  LinuxPodSandboxStatsSchema,
  type MemoryUsageSchema,
  type NetworkUsageSchema,
  PodSandboxStatsSchema,
  type PsiStatsSchema,
  type SwapUsageSchema,
} from "#gen/runtime/v1/api_pb.ts";
import { encodeRecords } from "#wire/encoded-records.ts";
import type { SnapshotUsage } from "../images/snapshot-usage.ts";
import type { Container } from "../store/container.ts";
import { ListedForms } from "../store/listed-forms.ts";
import type { Pod } from "../store/pod.ts";
import type { CgroupFigures, CpuFigures, MemoryFigures, Pressure } from "./cgroup-figures.ts";
import { defaultInterface, type InterfaceFigures } from "./network-figures.ts";

/** What a container takes, as it was found. */
export interface ContainerFigures {
  /** undefined for a container that does not run. */
  readonly cgroup: CgroupFigures | undefined;
  /** Nanoseconds of processors used in a second, where that is known. */
  readonly rate: bigint | undefined;
  /** What it has written to its root file system, as last measured. */
  readonly layer: SnapshotUsage | undefined;
  /** Where that file system is. */
  readonly layerRoot: string;
}

/** What a pod takes as a whole. */
export interface WholePodFigures {
  readonly cgroup: CgroupFigures | undefined;
  readonly rate: bigint | undefined;
  /** undefined with the network of the machine. */
  readonly interfaces: readonly InterfaceFigures[] | undefined;
}

/** Who a container is does not change. */
const containerAttributes = new ListedForms(({ id, metadata: { config } }: Container) => {
  const { metadata, labels, annotations } = config;
  const attributes = { id, ...(metadata === undefined ? {} : { metadata }), labels, annotations };
  return toBinary(ContainerStatsSchema, create(ContainerStatsSchema, { attributes }));
});

const podAttributes = new ListedForms(({ id, config }: Pod) => {
  const { metadata, labels, annotations } = config;
  const attributes = { id, ...(metadata === undefined ? {} : { metadata }), labels, annotations };
  return toBinary(PodSandboxStatsSchema, create(PodSandboxStatsSchema, { attributes }));
});

/** What a container takes, as the kubelet is told, encoded. @source containerd v2.3.4 internal/cri/server/container_stats_list.go `linuxContainerMetrics` */
export function containerStats(container: Container, { cgroup, rate, layer, layerRoot }: ContainerFigures): Uint8Array {
  const figures = create(ContainerStatsSchema, {
    ...usages(cgroup, rate),
    writableLayer: {
      timestamp: layer?.timestampNs ?? 0n,
      fsId: { mountpoint: layerRoot },
      usedBytes: { value: layer?.sizeBytes ?? 0n },
      inodesUsed: { value: layer?.inodes ?? 0n },
    },
  });
  return Buffer.concat([containerAttributes.of(container), toBinary(ContainerStatsSchema, figures)]);
}

/** What a pod takes. */
export interface PodFigures extends WholePodFigures {
  readonly timestampNs: bigint;
  /** Encoded. */
  readonly containers: readonly Uint8Array[];
  readonly processes: bigint;
}

/** What a pod takes, as the kubelet is told, encoded. @source containerd v2.3.4 internal/cri/server/sandbox_stats_linux.go `podSandboxStats` */
export function podStats(pod: Pod, figures: PodFigures): Uint8Array {
  const { timestampNs, cgroup, rate, interfaces, containers, processes } = figures;
  const linux = create(LinuxPodSandboxStatsSchema, {
    ...usages(cgroup, rate),
    ...(interfaces === undefined ? {} : { network: network(interfaces, timestampNs) }),
    process: { timestamp: timestampNs, processCount: { value: processes } },
  });
  const { containers: inLinux } = LinuxPodSandboxStatsSchema.field;
  const { linux: inPod } = PodSandboxStatsSchema.field;
  const whole = Buffer.concat([toBinary(LinuxPodSandboxStatsSchema, linux), encodeRecords(containers, inLinux.number)]);
  return Buffer.concat([podAttributes.of(pod), encodeRecords([whole], inPod.number)]);
}

function usages(cgroup: CgroupFigures | undefined, rate: bigint | undefined) {
  if (cgroup === undefined) {
    return {};
  }
  const { cpu, memory, timestampNs } = cgroup;
  return {
    ...(cpu === undefined ? {} : { cpu: cpuUsage(cpu, timestampNs, rate) }),
    ...(memory === undefined ? {} : { memory: memoryUsage(memory, timestampNs), swap: swapUsage(memory, timestampNs) }),
  };
}

function cpuUsage(
  { totalNs, pressure }: CpuFigures,
  timestamp: bigint,
  rate: bigint | undefined,
): MessageInitShape<typeof CpuUsageSchema> {
  return {
    timestamp,
    usageCoreNanoSeconds: { value: totalNs },
    ...(rate === undefined ? {} : { usageNanoCores: { value: rate } }),
    ...(pressure === undefined ? {} : { psi: psi(pressure) }),
  };
}

function memoryUsage(memory: MemoryFigures, timestamp: bigint): MessageInitShape<typeof MemoryUsageSchema> {
  return {
    timestamp,
    workingSetBytes: { value: memory.workingSet },
    availableBytes: { value: memory.available },
    usageBytes: { value: memory.usage },
    rssBytes: { value: memory.rss },
    pageFaults: { value: memory.pageFaults },
    majorPageFaults: { value: memory.majorPageFaults },
    ...(memory.pressure === undefined ? {} : { psi: psi(memory.pressure) }),
  };
}

function swapUsage(
  { swap, swapAvailable }: MemoryFigures,
  timestamp: bigint,
): MessageInitShape<typeof SwapUsageSchema> {
  return {
    timestamp,
    swapUsageBytes: { value: swap },
    ...(swapAvailable === undefined ? {} : { swapAvailableBytes: { value: swapAvailable } }),
  };
}

function psi({ some, full }: Pressure): MessageInitShape<typeof PsiStatsSchema> {
  const line = (figures: Pressure["some"]) =>
    figures && { Total: figures.totalNs, Avg10: figures.avg10, Avg60: figures.avg60, Avg300: figures.avg300 };
  const [someLine, fullLine] = [line(some), line(full)];
  return {
    ...(someLine === undefined ? {} : { Some: someLine }),
    ...(fullLine === undefined ? {} : { Full: fullLine }),
  };
}

function network(
  interfaces: readonly InterfaceFigures[],
  timestamp: bigint,
): MessageInitShape<typeof NetworkUsageSchema> {
  const usage = (figures: InterfaceFigures) => ({
    name: figures.name,
    rxBytes: { value: figures.receivedBytes },
    rxErrors: { value: figures.receiveErrors },
    txBytes: { value: figures.sentBytes },
    txErrors: { value: figures.sendErrors },
  });
  const main = defaultInterface(interfaces);
  return {
    timestamp,
    ...(main === undefined ? {} : { defaultInterface: usage(main) }),
    interfaces: interfaces.map(usage),
  };
}
