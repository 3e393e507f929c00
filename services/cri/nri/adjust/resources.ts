import { create } from "@bufbuild/protobuf";
import {
  Field,
  LinuxCPUSchema,
  LinuxMemorySchema,
  type LinuxResources,
  LinuxResourcesSchema,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import type { Owners } from "./owners.ts";

const memoryFields = {
  limit: Field.MemLimit,
  reservation: Field.MemReservation,
  swap: Field.MemSwapLimit,
  kernel: Field.MemKernelLimit,
  kernelTcp: Field.MemTCPLimit,
  swappiness: Field.MemSwappiness,
  disableOomKiller: Field.MemDisableOomKiller,
  useHierarchy: Field.MemUseHierarchy,
} as const;

const cpuFields = {
  shares: Field.CPUShares,
  quota: Field.CPUQuota,
  period: Field.CPUPeriod,
  realtimeRuntime: Field.CPURealtimeRuntime,
  realtimePeriod: Field.CPURealtimePeriod,
  cpus: Field.CPUSetCPUs,
  mems: Field.CPUSetMems,
} as const;

/** Resources that name nothing, with all parts there to be filled. */
export function emptyResources(): LinuxResources {
  return create(LinuxResourcesSchema, { memory: create(LinuxMemorySchema), cpu: create(LinuxCPUSchema) });
}

/** A copy that shares nothing that is changed. */
export function copyResources(resources: LinuxResources | undefined): LinuxResources {
  const { memory, cpu, ...rest } = resources ?? emptyResources();
  return create(LinuxResourcesSchema, {
    ...rest,
    memory: create(LinuxMemorySchema, memory),
    cpu: create(LinuxCPUSchema, cpu),
    hugepageLimits: [...rest.hugepageLimits],
    devices: [...rest.devices],
    unified: { ...rest.unified },
  });
}

/** Who changes the resources of which container. */
export interface ResourceChange {
  readonly owners: Owners;
  readonly containerId: string;
  readonly plugin: string;
}

/**
 * Puts what a plugin says of resources into others, where it says something.
 *
 * @throws {@link FlotillaError} when another plugin has set the same.
 * @source containerd/nri v0.12 pkg/adaptation/result.go `adjustResources`, `updateResources`
 */
export function mergeResources(
  target: LinuxResources,
  wanted: LinuxResources,
  { owners, containerId, plugin }: ResourceChange,
): void {
  const merge = <P extends object>(part: P, changes: P | undefined, fields: Partial<Record<keyof P, Field>>): void => {
    for (const [name, field] of Object.entries(fields) as [keyof P, Field][]) {
      const value = changes?.[name];
      if (value !== undefined && value !== "") {
        owners.claim(containerId, field, plugin);
        part[name] = value;
      }
    }
  };
  merge((target.memory ??= create(LinuxMemorySchema)), wanted.memory, memoryFields);
  merge((target.cpu ??= create(LinuxCPUSchema)), wanted.cpu, cpuFields);
  for (const limit of wanted.hugepageLimits) {
    owners.claim(containerId, Field.HugepageLimits, plugin, limit.pageSize);
    target.hugepageLimits.push(limit);
  }
  target.devices.push(...wanted.devices);
  for (const [key, value] of Object.entries(wanted.unified)) {
    owners.claim(containerId, Field.CgroupsUnified, plugin, key);
    target.unified[key] = value;
  }
  merge(target, wanted, { blockioClass: Field.BlockioClass, rdtClass: Field.RdtClass, pids: Field.PidsLimit });
}
