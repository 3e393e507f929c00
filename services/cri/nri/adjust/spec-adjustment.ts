import {
  type ContainerAdjustment,
  type Hook,
  IOPrioClass,
  type LinuxContainerAdjustment,
  type LinuxDevice,
  LinuxSchedulerFlag,
  LinuxSchedulerPolicy,
  type LinuxSeccomp,
  type Mount,
  MpolFlag,
  MpolMode,
} from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { enumName } from "../../containers/spec/enum-name.ts";
import type {
  OciDevice,
  OciHook,
  OciLinux,
  OciMount,
  OciNamespace,
  OciProcess,
  OciSeccomp,
  OciSpec,
} from "../../containers/spec/oci-spec.ts";
import { readMark } from "./owners.ts";
import { adjustResources } from "./spec-resources.ts";

/** What an adjustment needs of the runtime. */
export interface AdjustmentPorts {
  /** Puts devices of CDI into a specification. */
  readonly injectCdiDevices: (spec: OciSpec, names: readonly string[]) => Promise<void>;
  /** Whether limits of huge pages are left out. */
  readonly withoutHugepages: boolean;
}

const hookKinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] as const;

/**
 * Changes the specification of a container as plugins want it.
 *
 * @param spec - Is changed.
 * @throws {@link FlotillaError} `unknown` for a class of block I/O, which this machine has no configuration of; what CDI says of its devices.
 * @source containerd/nri v0.12 pkg/runtime-tools/generate/generate.go `Adjust`
 */
export async function adjustSpec(spec: OciSpec, adjust: ContainerAdjustment, ports: AdjustmentPorts): Promise<void> {
  spec.annotations = changeMap(spec.annotations, adjust.annotations);
  const process = (spec.process ??= { user: { uid: 0, gid: 0 }, cwd: "/" });
  process.env = changeEnvironment(process.env ?? [], adjust.env);
  if (adjust.args.length > 0) {
    process.args = [...adjust.args];
  }
  for (const kind of hookKinds) {
    const added = adjust.hooks?.[kind] ?? [];
    if (added.length > 0) {
      const hooks = (spec.hooks ??= {});
      hooks[kind] = [...(hooks[kind] ?? []), ...added.map(ociHook)];
    }
  }
  if (adjust.CDIDevices.length > 0) {
    await ports.injectCdiDevices(
      spec,
      adjust.CDIDevices.map(({ name }) => name),
    );
  }
  if (adjust.linux !== undefined) {
    adjustProcess(process, adjust.linux);
    adjustLinux((spec.linux ??= {}), adjust.linux, ports);
  }
  if (adjust.mounts.length > 0) {
    adjustMounts(spec, adjust.mounts);
  }
  for (const { type, hard, soft } of adjust.rlimits) {
    process.rlimits = [...(process.rlimits ?? []), { type, hard, soft }];
  }
}

function changeMap<V, W>(
  present: Record<string, W> | undefined,
  changes: Readonly<Record<string, V>>,
  convert: (value: V) => W = (value) => value as unknown as W,
): Record<string, W> {
  const changed = { ...present };
  for (const key of Object.keys(changes)) {
    const { name, isRemoval } = readMark(key);
    if (isRemoval) {
      delete changed[name];
    }
  }
  for (const [key, value] of Object.entries(changes)) {
    if (!readMark(key).isRemoval) {
      changed[key] = convert(value);
    }
  }
  return changed;
}

/** Variables keep their place; new ones come behind. */
function changeEnvironment(present: readonly string[], changes: ContainerAdjustment["env"]): string[] {
  const byName = new Map(changes.map(({ key, value }) => [readMark(key).name, { ...readMark(key), value }]));
  const nameOf = (variable: string): string => variable.split("=", 1)[0] ?? "";
  const kept = present.flatMap((variable) => {
    const change = byName.get(nameOf(variable));
    return change === undefined ? [variable] : change.isRemoval ? [] : [`${change.name}=${change.value}`];
  });
  const known = new Set(present.map(nameOf));
  const added = [...byName.values()].filter(({ name, isRemoval }) => !isRemoval && !known.has(name));
  return [...kept, ...added.map(({ name, value }) => `${name}=${value}`)];
}

function ociHook({ path, args, env, timeout }: Hook): OciHook {
  return {
    path,
    ...(args.length > 0 ? { args } : {}),
    ...(env.length > 0 ? { env } : {}),
    ...(timeout === undefined ? {} : { timeout: Number(timeout.value) }),
  };
}

function adjustProcess(process: OciProcess, linux: LinuxContainerAdjustment): void {
  if (linux.oomScoreAdj !== undefined) {
    process.oomScoreAdj = Number(linux.oomScoreAdj.value);
  }
  if (linux.ioPriority !== undefined) {
    const { class: ioClass, priority } = linux.ioPriority;
    process.ioPriority = { class: enumName(IOPrioClass, ioClass), priority };
  }
  if (linux.scheduler !== undefined) {
    const { policy, nice, priority, flags, runtime, deadline, period } = linux.scheduler;
    process.scheduler = {
      policy: enumName(LinuxSchedulerPolicy, policy),
      nice,
      priority,
      flags: flags.map((flag) => enumName(LinuxSchedulerFlag, flag)),
      runtime,
      deadline,
      period,
    };
  }
}

function adjustLinux(linux: OciLinux, adjust: LinuxContainerAdjustment, ports: AdjustmentPorts): void {
  for (const device of adjust.devices) {
    const { name, isRemoval } = readMark(device.path);
    linux.devices = (linux.devices ?? []).filter(({ path }) => path !== name);
    if (!isRemoval) {
      linux.devices.push(ociDevice(device));
      const resources = (linux.resources ??= {});
      const [major, minor] = [Number(device.major), Number(device.minor)];
      resources.devices = [
        ...(resources.devices ?? []),
        { allow: true, type: device.type, major, minor, access: device.type === "b" ? "rwm" : "rw" },
      ];
    }
  }
  if (adjust.cgroupsPath !== "") {
    linux.cgroupsPath = adjust.cgroupsPath;
  }
  if (adjust.seccompPolicy !== undefined) {
    linux.seccomp = ociSeccomp(adjust.seccompPolicy);
  }
  for (const { type, path } of adjust.namespaces) {
    const { name, isRemoval } = readMark(type);
    linux.namespaces = (linux.namespaces ?? []).filter((namespace) => namespace.type !== name);
    if (!isRemoval) {
      linux.namespaces.push({ type: name as OciNamespace["type"], ...(path === "" ? {} : { path }) });
    }
  }
  if (Object.keys(adjust.sysctl).length > 0) {
    linux.sysctl = changeMap(linux.sysctl, adjust.sysctl);
  }
  if (Object.keys(adjust.netDevices).length > 0) {
    linux.netDevices = changeMap(linux.netDevices, adjust.netDevices, ({ name }) => (name === "" ? {} : { name }));
  }
  if (adjust.memoryPolicy !== undefined) {
    const { mode, nodes, flags } = adjust.memoryPolicy;
    linux.memoryPolicy = {
      mode: enumName(MpolMode, mode),
      nodes,
      ...(flags.length > 0 ? { flags: flags.map((flag) => enumName(MpolFlag, flag)) } : {}),
    };
  }
  adjustResources(linux, adjust, ports.withoutHugepages);
}

function ociDevice({ path, type, major, minor, fileMode, uid, gid }: LinuxDevice): OciDevice {
  return {
    path,
    type,
    major: Number(major),
    minor: Number(minor),
    ...(fileMode === undefined ? {} : { fileMode: fileMode.value }),
    ...(uid === undefined ? {} : { uid: uid.value }),
    ...(gid === undefined ? {} : { gid: gid.value }),
  };
}

function ociSeccomp(policy: LinuxSeccomp): OciSeccomp {
  return {
    defaultAction: policy.defaultAction,
    architectures: policy.architectures,
    ...(policy.listenerPath === "" ? {} : { listenerPath: policy.listenerPath }),
    ...(policy.listenerMetadata === "" ? {} : { listenerMetadata: policy.listenerMetadata }),
    flags: policy.flags,
    syscalls: policy.syscalls.map(({ names, action, errnoRet, args }) => ({
      names,
      action,
      ...(errnoRet === undefined ? {} : { errnoRet: errnoRet.value }),
      args: args.map(({ index, value, valueTwo, op }) => ({ index, value, valueTwo, op })),
    })),
  };
}

/** Mounts in the order of their depth, so that none hides another. */
function adjustMounts(spec: OciSpec, changes: readonly Mount[]): void {
  let mounts: OciMount[] = spec.mounts ?? [];
  for (const { destination, type, source, options } of changes) {
    const { name, isRemoval } = readMark(destination);
    mounts = mounts.filter((mount) => mount.destination !== name);
    if (!isRemoval) {
      mounts.push({ destination: name, type, source, options });
      requirePropagation((spec.linux ??= {}), options);
    }
  }
  const depthOf = ({ destination }: OciMount): number => destination.replace(/\/+$/, "").split("/").length;
  spec.mounts = mounts
    .map((mount) => ({ mount, depth: depthOf(mount) }))
    .sort((one, other) => one.depth - other.depth || (one.mount.destination < other.mount.destination ? -1 : 1))
    .map(({ mount }) => mount);
}

/** A mount that is to pass on what is mounted in it needs a root that does. */
function requirePropagation(linux: OciLinux, options: readonly string[]): void {
  if (options.includes("rshared")) {
    linux.rootfsPropagation = "rshared";
  } else if (options.includes("rslave") && linux.rootfsPropagation !== "rshared") {
    linux.rootfsPropagation = "rslave";
  }
}
