import { create } from "@bufbuild/protobuf";
import {
  type Container,
  ContainerSchema,
  type ContainerState,
  HooksSchema,
  type LinuxContainer,
  LinuxContainerSchema,
  type LinuxResources,
  LinuxResourcesSchema,
  type PodSandbox,
  PodSandboxSchema,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import {
  type ContainerConfig,
  type LinuxContainerResources,
  LinuxContainerResourcesSchema,
} from "#gen/runtime/v1/api_pb.ts";
import type { OciHook, OciSpec } from "../containers/spec/oci-spec.ts";
import type { ContainerStatusRecord } from "../store/container.ts";
import type { Pod } from "../store/pod.ts";

/** How far a container is, as far as plugins are told. */
type Progress = Pick<
  ContainerStatusRecord,
  "pid" | "createdAtNs" | "startedAtNs" | "finishedAtNs" | "exitCode" | "reason" | "message"
>;

/** What plugins are told of a container. */
export interface NriContainer extends Progress {
  readonly id: string;
  readonly podId: string;
  readonly config: ContainerConfig;
  /** Of its record, besides those of the kubelet. */
  readonly labels: Readonly<Record<string, string>>;
  readonly state: ContainerState;
}

const hookKinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] as const;

/**
 * A pod as plugins are told of it.
 *
 * @param spec - Specification of its sandbox, where it is known.
 * @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go `criPodSandbox`
 */
export function describePod(pod: Pod, spec: OciSpec | undefined): PodSandbox {
  const { metadata, linux, labels, annotations } = pod.config;
  const namespaces = (spec?.linux?.namespaces ?? [])
    .map(({ type, path = "" }) => ({ type, path: type === "network" ? pod.netnsPath : path }))
    .filter(({ type, path }) => type !== "network" || path !== "");
  return create(PodSandboxSchema, {
    id: pod.id,
    name: metadata?.name ?? "",
    uid: metadata?.uid ?? "",
    namespace: metadata?.namespace ?? "",
    labels: { ...labels },
    annotations: { ...annotations, ...spec?.annotations },
    runtimeHandler: pod.runtimeHandler,
    linux: {
      ...(linux?.overhead === undefined ? {} : { podOverhead: fromKubelet(linux.overhead) }),
      ...(linux?.resources === undefined ? {} : { podResources: fromKubelet(linux.resources) }),
      cgroupParent: linux?.cgroupParent ?? "",
      cgroupsPath: spec?.linux?.cgroupsPath ?? "",
      namespaces,
      ...(spec?.linux?.resources === undefined ? {} : { resources: fromSpec(spec) }),
    },
    pid: pod.pid,
    ips: pod.ip === "" ? [] : [pod.ip, ...pod.additionalIps],
  });
}

/** A container as plugins are told of it. @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go `criContainer` */
export function describeContainer(container: NriContainer, spec: OciSpec | undefined): Container {
  const { config } = container;
  const { process, mounts = [], annotations } = spec ?? {};
  const user = process?.user;
  return create(ContainerSchema, {
    id: container.id,
    podSandboxId: container.podId,
    name: config.metadata?.name ?? "",
    state: container.state,
    labels: { ...container.labels, ...config.labels },
    annotations: { ...annotations, ...config.annotations },
    args: [...(process?.args ?? [])],
    env: [...(process?.env ?? [])],
    mounts: mounts.map(({ destination, type = "", source = "", options = [] }) => ({
      destination,
      type,
      source,
      options: [...options],
    })),
    hooks: create(
      HooksSchema,
      Object.fromEntries(hookKinds.map((kind) => [kind, (spec?.hooks?.[kind] ?? []).map(nriHook)])),
    ),
    linux: describeLinux(container, spec),
    pid: container.pid,
    rlimits: (process?.rlimits ?? []).map(({ type, hard, soft }) => ({ type, hard: BigInt(hard), soft: BigInt(soft) })),
    createdAt: container.createdAtNs,
    startedAt: container.startedAtNs,
    finishedAt: container.finishedAtNs,
    exitCode: container.exitCode,
    statusReason: container.reason,
    statusMessage: container.message,
    CDIDevices: config.CDIDevices.map(({ name }) => ({ name })),
    ...(user === undefined
      ? {}
      : { user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids ?? [] } }),
  });
}

function describeLinux({ config }: NriContainer, spec: OciSpec | undefined): LinuxContainer {
  const { linux, process } = spec ?? {};
  const seccomp = config.linux?.securityContext?.seccomp;
  return create(LinuxContainerSchema, {
    namespaces: (linux?.namespaces ?? []).map(({ type, path = "" }) => ({ type, path })),
    devices: (linux?.devices ?? []).map(({ path, type, major, minor, fileMode, uid, gid }) => ({
      path,
      type,
      major: BigInt(major),
      minor: BigInt(minor),
      ...(fileMode === undefined ? {} : { fileMode: { value: fileMode } }),
      ...(uid === undefined ? {} : { uid: { value: uid } }),
      ...(gid === undefined ? {} : { gid: { value: gid } }),
    })),
    ...(spec?.linux?.resources === undefined ? {} : { resources: fromSpec(spec) }),
    ...(process?.oomScoreAdj === undefined ? {} : { oomScoreAdj: { value: BigInt(process.oomScoreAdj) } }),
    cgroupsPath: linux?.cgroupsPath ?? "",
    ...(seccomp === undefined
      ? {}
      : { seccompProfile: { profileType: seccomp.profileType, localhostRef: seccomp.localhostRef } }),
    sysctl: { ...linux?.sysctl },
    netDevices: Object.fromEntries(
      Object.entries(linux?.netDevices ?? {}).map(([key, { name = "" }]) => [key, { name }]),
    ),
  });
}

function nriHook({ path, args = [], env = [], timeout }: OciHook): {
  path: string;
  args: string[];
  env: string[];
  timeout?: { value: bigint };
} {
  return {
    path,
    args: [...args],
    env: [...env],
    ...(timeout === undefined ? {} : { timeout: { value: BigInt(timeout) } }),
  };
}

/** Resources as they stand in a specification. @source containerd/nri v0.12 pkg/api/resources.go `FromOCILinuxResources` */
function fromSpec({ linux }: OciSpec): LinuxResources {
  const { memory, cpu, pids, hugepageLimits = [], unified, devices = [] } = linux?.resources ?? {};
  const value = (number: number | bigint | undefined): { value: bigint } | undefined =>
    number === undefined ? undefined : { value: BigInt(number) };
  return create(LinuxResourcesSchema, {
    memory: { limit: value(memory?.limit), swap: value(memory?.swap), reservation: value(memory?.reservation) },
    cpu: {
      shares: value(cpu?.shares),
      quota: value(cpu?.quota),
      period: value(cpu?.period),
      realtimeRuntime: value(cpu?.realtimeRuntime),
      realtimePeriod: value(cpu?.realtimePeriod),
      cpus: cpu?.cpus ?? "",
      mems: cpu?.mems ?? "",
    },
    hugepageLimits: hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit: BigInt(limit) })),
    unified: { ...unified },
    devices: devices.map(({ allow, type = "", major, minor, access = "" }) => ({
      allow,
      type,
      major: value(major),
      minor: value(minor),
      access,
    })),
    ...(pids?.limit === undefined ? {} : { pids: { limit: BigInt(pids.limit) } }),
  });
}

/** Resources as the kubelet says them. @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go `fromCRILinuxResources` */
export function fromKubelet(resources: LinuxContainerResources): LinuxResources {
  return create(LinuxResourcesSchema, {
    cpu: {
      shares: { value: resources.cpuShares },
      quota: { value: resources.cpuQuota },
      period: { value: resources.cpuPeriod },
      cpus: resources.cpusetCpus,
      mems: resources.cpusetMems,
    },
    memory: { limit: { value: resources.memoryLimitInBytes } },
    hugepageLimits: resources.hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit })),
    unified: { ...resources.unified },
  });
}

/** The way back. @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go `toCRIResources` */
export function toKubelet({ cpu, memory, hugepageLimits, unified }: LinuxResources): LinuxContainerResources {
  return create(LinuxContainerResourcesSchema, {
    cpuShares: cpu?.shares?.value ?? 0n,
    cpuQuota: cpu?.quota?.value ?? 0n,
    cpuPeriod: cpu?.period?.value ?? 0n,
    cpusetCpus: cpu?.cpus ?? "",
    cpusetMems: cpu?.mems ?? "",
    memoryLimitInBytes: memory?.limit?.value ?? 0n,
    hugepageLimits: hugepageLimits.map(({ pageSize, limit }) => ({ pageSize, limit })),
    unified: { ...unified },
  });
}
