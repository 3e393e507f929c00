import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type {
  ContainerConfig,
  LinuxContainerSecurityContext,
  LinuxSandboxSecurityContext,
  PodSandboxConfig,
} from "#gen/runtime/v1/api_pb.ts";
import { NamespaceMode } from "#gen/runtime/v1/api_pb.ts";
import type { BlockIo } from "../../block-io/block-io.ts";
import type { Labels } from "../../selinux/selinux.ts";
import { containerAnnotations, passedAnnotations } from "./annotations.ts";
import { applyCapabilities, replaceCapabilities } from "./capabilities.ts";
import { cgroupsPath } from "./cgroups-path.ts";
import { defaultPath, defaultSpec, namespacedCgroup } from "./default-spec.ts";
import { addDevices, allowAllDevices, type DeviceWish } from "./devices.ts";
import { containerMounts, type HostMount } from "./mounts.ts";
import { hasOwnUsers, isSameUserNamespace, joinPodNamespaces, setNamespace } from "./namespaces.ts";
import type { OciDevice, OciLinux, OciMount, OciProcess, OciSeccomp, OciSpec, OciUser } from "./oci-spec.ts";
import { mergeEnvironment, processArguments } from "./process-arguments.ts";
import { applyResources, oomScoreAdj, type ResourceRules } from "./resources.ts";
import { defaultSeccompProfile } from "./seccomp-profile.ts";
import type { Confinement } from "./security-profile.ts";

/** What an image says of the containers that are made of it. @source opencontainers/image-spec v1.1 config.md */
export interface ImageConfig {
  readonly user: string;
  readonly env: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly workingDirectory: string;
  /** Places of the container that are to be volumes. */
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly stopSignal: string;
}

/** What the configuration says of a runtime. */
export interface RuntimeRules {
  /** The specification to start from; undefined for the default one. */
  readonly baseSpec: OciSpec | undefined;
  readonly isCgroupWritable: boolean;
  readonly privilegedWithoutHostDevices: boolean;
  readonly privilegedMayUseAllDevices: boolean;
  readonly podAnnotations: readonly string[];
  readonly containerAnnotations: readonly string[];
}

/** What is so on this machine. */
export interface MachineFacts extends ResourceRules {
  readonly namespace: string;
  readonly hostname: string;
  /** Its architecture, as Node.js names it. */
  readonly architecture: string;
  readonly hasUnifiedCgroups: boolean;
  /** What this daemon may do, which is all that it can give on. */
  readonly capabilities: readonly string[];
  readonly hasOwnPtrace: boolean;
  /** Options of its cgroup file system. */
  readonly cgroupOptions: readonly string[] | undefined;
}

export interface ContainerSpecRequest {
  readonly id: string;
  readonly sandboxId: string;
  readonly config: ContainerConfig;
  readonly pod: PodSandboxConfig;
  readonly image: ImageConfig;
  /** What the image is called in annotations. */
  readonly imageName: string;
  readonly runtime: RuntimeRules;
  readonly machine: MachineFacts;
  readonly user: OciUser;
  /** Labels of SELinux that it runs with. */
  readonly labels: Labels;
  readonly mounts: readonly HostMount[];
  readonly canRecursiveReadOnly: boolean;
  readonly devices: readonly DeviceWish[];
  /** What its class of block I/O says; undefined for none. */
  readonly blockIo: BlockIo | undefined;
  /** All devices of the machine, for containers that get them. */
  readonly hostDevices: readonly OciDevice[];
  /** Whether devices belong to the container's user. */
  readonly givesDevicesAway: boolean;
  /** Whether masked and read-only paths stay as they stand in the specification to start from. */
  readonly disableProcMount: boolean;
  readonly seccomp: OciSeccomp | Confinement;
  /** Name of the profile of AppArmor; "" for none. */
  readonly apparmorProfile: string;
  readonly sandboxPid: number;
  readonly targetPid: number;
}

/**
 * The specification of a container, from all that its pod, its image, the machine and the configuration say. Pure: whatever is to be looked up has been.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words, when what is wished for can't be had together.
 * @source containerd v2.3.4 internal/cri/server/container_create.go `buildLinuxSpec`, `platformSpecOpts`
 */
export function containerSpec(request: ContainerSpecRequest): OciSpec {
  const { config, pod, machine, runtime } = request;
  const security = config.linux?.securityContext;
  requirePossible(security, pod.linux?.securityContext);
  const spec = startSpec(request);
  const process = processOf(spec, request);
  const { mountLabel: _mountLabel, ...baseLinux } = spec.linux ?? {};
  const linux: OciLinux = { ...baseLinux };
  if (request.labels.mount !== "") {
    linux.mountLabel = request.labels.mount;
  }
  const isPrivileged = security?.privileged === true;
  if (machine.hasUnifiedCgroups && !isPrivileged) {
    setNamespace(linux, { type: "cgroup" });
  }
  const hasCgroupNamespace = linux.namespaces?.some(({ type }) => type === "cgroup") === true;
  const { mounts, rootPropagation } = containerMounts({
    defaults: (spec.mounts ?? []).filter(({ destination }) => destination !== "/run"),
    mounts: request.mounts,
    canRecursiveReadOnly: request.canRecursiveReadOnly,
    isCgroupWritable: runtime.isCgroupWritable,
    hostCgroupOptions: hasCgroupNamespace ? undefined : machine.cgroupOptions,
  });
  if (rootPropagation !== undefined) {
    linux.rootfsPropagation = rootPropagation;
  }
  if (!request.disableProcMount) {
    linux.maskedPaths = [...(security?.maskedPaths ?? [])];
    linux.readonlyPaths = [...(security?.readonlyPaths ?? [])];
  }
  setDevices(linux, request);
  setLimits(linux, request);
  joinPodNamespaces(linux, security?.namespaceOptions, request);
  const needsHostSys =
    pod.linux?.securityContext?.namespaceOptions?.network === NamespaceMode.NODE &&
    hasOwnUsers(security?.namespaceOptions);
  return {
    ...spec,
    root: { path: "rootfs", ...(security?.readonlyRootfs === true ? { readonly: true } : readonlyOf(spec)) },
    process,
    mounts: finishMounts(mounts, { isPrivileged, needsHostSys }),
    annotations: {
      ...spec.annotations,
      ...passedAnnotations(pod.annotations, runtime.podAnnotations),
      ...passedAnnotations(config.annotations, runtime.containerAnnotations),
      ...containerAnnotations(
        { sandboxId: request.sandboxId, containerName: config.metadata?.name ?? "", imageName: request.imageName },
        pod,
      ),
    },
    linux: withSeccomp(isPrivileged ? withoutBarriers(linux) : linux, process, request),
  };
}

function requirePossible(
  security: LinuxContainerSecurityContext | undefined,
  pod: LinuxSandboxSecurityContext | undefined,
): void {
  if (security?.privileged === true && pod?.privileged !== true) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      "failed to generate spec opts: no privileged container allowed in sandbox",
    );
  }
  const [own, theirs] = [security?.namespaceOptions?.usernsOptions, pod?.namespaceOptions?.usernsOptions];
  if (!isSameUserNamespace(theirs, own)) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      "failed to generate spec opts: user namespace config for sandbox is different from container",
    );
  }
}

function readonlyOf({ root }: OciSpec): { readonly?: boolean } {
  return root?.readonly === true ? { readonly: true } : {};
}

/** A base specification keeps its limits and its filter; of the default one they are taken. */
function startSpec({ id, runtime, machine }: ContainerSpecRequest): OciSpec {
  const place = { namespace: machine.namespace, id };
  if (runtime.baseSpec !== undefined) {
    const base = structuredClone(runtime.baseSpec);
    return { ...base, linux: { ...base.linux, cgroupsPath: namespacedCgroup(place) } };
  }
  const spec = defaultSpec(place);
  delete spec.process?.rlimits;
  return spec;
}

function processOf(spec: OciSpec, request: ContainerSpecRequest): OciProcess {
  const { config, image, pod, machine, user, labels } = request;
  const security = config.linux?.securityContext;
  const start: OciProcess = spec.process ?? { cwd: "/", user: { uid: 0, gid: 0 } };
  const granted = applyCapabilities(start.capabilities, security?.capabilities, machine.capabilities);
  const resources = config.linux?.resources;
  const { apparmorProfile: baseProfile, selinuxLabel: _label, ...rest } = start;
  const apparmorProfile = request.apparmorProfile || (security?.privileged === true ? "" : (baseProfile ?? ""));
  return {
    ...rest,
    terminal: config.tty || start.terminal === true,
    user,
    args: processArguments({ command: config.command, args: config.args, image }),
    env: environment(start.env ?? [], request),
    cwd: config.workingDir || image.workingDirectory || start.cwd,
    capabilities: security?.privileged === true ? replaceCapabilities(granted, machine.capabilities) : granted,
    noNewPrivileges: security?.noNewPrivs === true,
    ...(apparmorProfile === "" ? {} : { apparmorProfile }),
    ...(labels.process === "" ? {} : { selinuxLabel: labels.process }),
    ...(resources === undefined ? {} : { oomScoreAdj: oomScoreAdj(resources, machine) }),
  };
  function environment(base: readonly string[], { image: { env } }: ContainerSpecRequest): string[] {
    const own = config.envs.map(({ key, value }) => `${key}=${Buffer.from(value).toString("utf8")}`);
    const fixed = mergeEnvironment(base, [defaultPath]);
    const terminal = config.tty ? ["TERM=xterm"] : [];
    return mergeEnvironment([...fixed, ...terminal], [`HOSTNAME=${pod.hostname || machine.hostname}`, ...env, ...own]);
  }
}

function setDevices(linux: OciLinux, request: ContainerSpecRequest): void {
  const { config, runtime, devices, hostDevices, givesDevicesAway } = request;
  const security = config.linux?.securityContext;
  const owner = givesDevicesAway
    ? { uid: Number(security?.runAsUser?.value ?? 0n), gid: Number(security?.runAsGroup?.value ?? 0n) }
    : { uid: 0, gid: 0 };
  addDevices(linux, devices, owner);
  if (security?.privileged !== true) {
    return;
  }
  if (!runtime.privilegedWithoutHostDevices) {
    linux.devices = [...(linux.devices ?? []), ...hostDevices];
  }
  if (!runtime.privilegedWithoutHostDevices || runtime.privilegedMayUseAllDevices) {
    allowAllDevices(linux);
  }
}

function setLimits(linux: OciLinux, { id, config, pod, machine, blockIo }: ContainerSpecRequest): void {
  linux.resources = {
    ...applyResources(linux.resources, config.linux?.resources, machine),
    ...(blockIo === undefined ? {} : { blockIO: { ...blockIo } }),
  };
  const parent = pod.linux?.cgroupParent ?? "";
  if (parent !== "") {
    linux.cgroupsPath = cgroupsPath(parent, id);
  }
}

/** What a privileged container is not kept from. @source containerd v2.3.4 pkg/oci/spec_opts.go `WithPrivileged` */
function withoutBarriers(linux: OciLinux): OciLinux {
  const { maskedPaths: _masked, readonlyPaths: _readonly, seccomp: _seccomp, ...rest } = linux;
  return rest;
}

function withSeccomp(linux: OciLinux, process: OciProcess, { seccomp, machine }: ContainerSpecRequest): OciLinux {
  if (!("kind" in seccomp)) {
    return { ...linux, seccomp };
  }
  if (seccomp.kind !== "default") {
    return linux;
  }
  const { architecture, hasOwnPtrace } = machine;
  const bounding = process.capabilities?.bounding ?? [];
  return { ...linux, seccomp: defaultSeccompProfile({ machine: architecture, bounding, hasOwnPtrace }) };
}

/**
 * Lets a privileged container write to what the kernel tells of itself; and binds /sys of the machine where the container may not mount it, because its network is the
 * machine's and its users are not.
 */
function finishMounts(
  mounts: readonly OciMount[],
  { isPrivileged, needsHostSys }: { readonly isPrivileged: boolean; readonly needsHostSys: boolean },
): OciMount[] {
  const writable = mounts.map((mount) =>
    isPrivileged && (mount.type === "sysfs" || mount.type === "cgroup")
      ? { ...mount, options: (mount.options ?? []).map((option) => (option === "ro" ? "rw" : option)) }
      : mount,
  );
  return needsHostSys
    ? [
        ...writable.filter(({ destination }) => destination !== "/sys"),
        { source: "/sys", destination: "/sys", type: "bind", options: ["rbind", "rro", "nosuid", "nodev", "noexec"] },
      ]
    : writable;
}
