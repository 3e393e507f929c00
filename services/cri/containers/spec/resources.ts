import { create } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { type LinuxContainerResources, LinuxContainerResourcesSchema } from "#gen/runtime/v1/api_pb.ts";
import type { OciInteger, OciResources, OciSpec } from "./oci-spec.ts";

/** What cgroups of this machine can do, and what the configuration says of it. */
export interface ResourceRules {
  readonly hasSwap: boolean;
  readonly hasHugetlb: boolean;
  readonly disableHugetlb: boolean;
  readonly tolerateMissingHugetlb: boolean;
  /** Lowest oom_score_adj that may be given; undefined for any. */
  readonly oomScoreAdjMin: number | undefined;
}

/**
 * Sets the limits that a container asks for; 0 and "" leave as it is. Without a limit of swap of its own a container with a limit of memory gets no swap.
 *
 * @throws {@link FlotillaError} `unknown` when huge pages are limited and the machine can't, and that is not to be tolerated.
 * @source containerd v2.3.4 internal/cri/opts/spec_linux_opts.go `WithResources`, `WithOOMScoreAdj`
 */
export function applyResources(
  start: OciResources | undefined,
  wishes: LinuxContainerResources | undefined,
  rules: ResourceRules,
): OciResources {
  if (wishes === undefined) {
    return { ...start };
  }
  const { memoryLimitInBytes: limit, memorySwapLimitInBytes: swap } = wishes;
  const cpu = { ...start?.cpu };
  assignNumber(cpu, "period", wishes.cpuPeriod);
  assignNumber(cpu, "quota", wishes.cpuQuota);
  assignNumber(cpu, "shares", wishes.cpuShares);
  if (wishes.cpusetCpus !== "") {
    cpu.cpus = wishes.cpusetCpus;
  }
  if (wishes.cpusetMems !== "") {
    cpu.mems = wishes.cpusetMems;
  }
  const memory = { ...start?.memory };
  assignNumber(memory, "limit", limit);
  if (rules.hasSwap) {
    assignNumber(memory, "swap", swap === 0n ? limit : swap);
  }
  const result: OciResources = { ...start, cpu, memory };
  const pages = hugepageLimits(wishes, rules);
  if (pages.length > 0) {
    const sizes = new Set(pages.map(({ pageSize }) => pageSize));
    result.hugepageLimits = [...(start?.hugepageLimits ?? []).filter(({ pageSize }) => !sizes.has(pageSize)), ...pages];
  }
  if (Object.keys(wishes.unified).length > 0) {
    result.unified = { ...start?.unified, ...wishes.unified };
  }
  return result;
}

/** The oom_score_adj that a container gets: what it asks for, and not less than is allowed. @source containerd v2.3.4 internal/cri/opts/spec_linux_opts.go `WithOOMScoreAdj` */
export function oomScoreAdj(wishes: LinuxContainerResources, { oomScoreAdjMin }: ResourceRules): number {
  const wanted = Number(wishes.oomScoreAdj);
  return oomScoreAdjMin === undefined ? wanted : Math.max(wanted, oomScoreAdjMin);
}

function hugepageLimits(
  { hugepageLimits }: LinuxContainerResources,
  { hasHugetlb, disableHugetlb, tolerateMissingHugetlb }: ResourceRules,
): NonNullable<OciResources["hugepageLimits"]> {
  if (disableHugetlb) {
    return [];
  }
  if (hasHugetlb) {
    return hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit: exact(limit) }));
  }
  if (!tolerateMissingHugetlb) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      "huge pages limits are specified but hugetlb cgroup controller is missing. Please set tolerate_missing_hugetlb_controller to `true` to ignore this error",
    );
  }
  return [];
}

/**
 * The limits that a specification gives, as the kubelet is told of them.
 *
 * @source containerd v2.3.4 internal/cri/server/helpers.go `copyResourcesToStatus`
 */
export function resourcesOf({ process, linux }: OciSpec): LinuxContainerResources {
  const { cpu, memory, hugepageLimits, unified } = linux?.resources ?? {};
  return create(LinuxContainerResourcesSchema, {
    oomScoreAdj: BigInt(process?.oomScoreAdj ?? 0),
    cpuPeriod: BigInt(cpu?.period ?? 0),
    cpuQuota: BigInt(cpu?.quota ?? 0),
    cpuShares: BigInt(cpu?.shares ?? 0),
    cpusetCpus: cpu?.cpus ?? "",
    cpusetMems: cpu?.mems ?? "",
    memoryLimitInBytes: BigInt(memory?.limit ?? 0),
    memorySwapLimitInBytes: BigInt(memory?.swap ?? 0),
    hugepageLimits: (hugepageLimits ?? []).map(({ pageSize, limit }) => ({ pageSize, limit: BigInt(limit) })),
    unified: { ...unified },
  });
}

function assignNumber<K extends string>(target: { [key in K]?: OciInteger }, key: K, value: bigint): void {
  if (value !== 0n) {
    target[key] = exact(value);
  }
}

/** A number where that is exact. */
function exact(value: bigint): OciInteger {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
