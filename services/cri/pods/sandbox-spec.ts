import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { NamespaceMode, type PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import type { CriSettings } from "../config.ts";
import { passedAnnotations, sandboxAnnotations } from "../containers/spec/annotations.ts";
import { cgroupsPath, cleanPath } from "../containers/spec/cgroups-path.ts";
import type { ImageConfig, MachineFacts } from "../containers/spec/container-spec.ts";
import { defaultPath, defaultSpec } from "../containers/spec/default-spec.ts";
import { setNamespace, userMappings } from "../containers/spec/namespaces.ts";
import type { OciLinux, OciMount, OciNamespace, OciSeccomp, OciSpec } from "../containers/spec/oci-spec.ts";
import { processUser } from "../containers/spec/process-user.ts";
import type { Labels } from "../selinux/selinux.ts";
import { hasHostNetwork, type Pod } from "../store/pod.ts";
import { hasHostIpc, hostShm, podFiles } from "./sandbox-files.ts";

/** What the specification of a pause container is made of. */
export interface SandboxSpecRequest {
  readonly pod: Pick<Pod, "id" | "config" | "netnsPath" | "directory" | "stateDirectory" | "runtime">;
  readonly labels: Labels;
  readonly image: ImageConfig;
  /** Name of the image as the configuration has it. */
  readonly imageName: string;
  readonly settings: Pick<CriSettings, "enableUnprivilegedPorts" | "enableUnprivilegedIcmp">;
  readonly machine: Pick<MachineFacts, "namespace" | "oomScoreAdjMin">;
  /** Filter of system calls, if it gets one. */
  readonly seccomp: OciSeccomp | undefined;
}

/** A pause container is killed after everything else. @source containerd v2.3.4 internal/cri/server/podsandbox/helpers_linux.go `defaultSandboxOOMAdj` */
const sandboxOomScoreAdj = -998;
/** @source containerd v2.3.4 internal/cri/opts/spec_opts.go `DefaultSandboxCPUshares` */
const sandboxCpuShares = 2;

const bindOptions = ["rbind", "ro", "nosuid", "nodev", "noexec"];

/**
 * The specification of a pause container.
 *
 * @throws {@link FlotillaError} `unknown` with containerd's text for wishes that make no sense.
 * @source containerd v2.3.4 internal/cri/server/podsandbox/sandbox_run_linux.go `sandboxContainerSpec`, `sandboxContainerSpecOpts`
 */
export function sandboxSpec(request: SandboxSpecRequest): OciSpec {
  const { pod, image, imageName, machine, labels } = request;
  const { config } = pod;
  const { linux, process: base, ...rest } = defaultSpec({ namespace: machine.namespace, id: pod.id });
  const args = [...image.entrypoint, ...image.cmd];
  if (linux === undefined || base === undefined || args.length === 0) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid empty entrypoint and cmd in image config of ${imageName}`);
  }
  const context = config.linux?.securityContext;
  const { rlimits: _none, ...process } = base;
  return {
    ...rest,
    root: { path: "rootfs", readonly: true },
    ...(config.hostname === "" ? {} : { hostname: config.hostname }),
    process: {
      ...process,
      args,
      env: image.env.length > 0 ? [defaultPath, ...image.env] : [defaultPath],
      cwd: image.workingDirectory || "/",
      ...(labels.process === "" ? {} : { selinuxLabel: labels.process }),
      oomScoreAdj: Math.max(sandboxOomScoreAdj, machine.oomScoreAdjMin ?? sandboxOomScoreAdj),
      user: processUser(
        {
          username: "",
          uid: context?.runAsUser?.value,
          gid: context?.runAsGroup?.value,
          imageUser: image.user,
          supplementalGroups: context?.supplementalGroups ?? [],
          mergesImageGroups: false,
        },
        { users: undefined, groups: undefined },
      ),
    },
    mounts: mountsOf(rest.mounts ?? [], pod, context?.privileged ?? false),
    linux: linuxOf(linux, request),
    annotations: {
      ...resourceAnnotations(config),
      ...passedAnnotations(config.annotations, pod.runtime?.podAnnotations ?? []),
      ...sandboxAnnotations({ sandboxId: pod.id, imageName }, config),
    },
  };
}

function linuxOf(base: OciLinux, { pod, settings, seccomp, labels }: SandboxSpecRequest): OciLinux {
  const { config } = pod;
  const options = config.linux?.securityContext?.namespaceOptions;
  const { uids, gids } = userMappings(options?.usernsOptions);
  const left = new Set<OciNamespace["type"]>([
    ...(hasHostNetwork(config) ? (["network", "uts"] as const) : []),
    ...(options?.pid === NamespaceMode.NODE ? (["pid"] as const) : []),
    ...(hasHostIpc(config) ? (["ipc"] as const) : []),
  ]);
  const linux: OciLinux = {
    ...base,
    namespaces: (base.namespaces ?? []).filter(({ type }) => !left.has(type)),
    resources: { ...base.resources, cpu: { shares: sandboxCpuShares } },
    sysctl: sysctlsOf(config, settings),
    ...(seccomp === undefined ? {} : { seccomp }),
    ...(labels.mount === "" ? {} : { mountLabel: labels.mount }),
  };
  const parent = config.linux?.cgroupParent ?? "";
  if (parent !== "") {
    linux.cgroupsPath = cgroupsPath(parent, pod.id);
  }
  if (!hasHostNetwork(config)) {
    setNamespace(linux, { type: "network", path: pod.netnsPath });
  }
  if (options?.usernsOptions?.mode === NamespaceMode.POD) {
    setNamespace(
      linux,
      hasHostNetwork(config) ? { type: "user" } : { type: "user", path: podFiles.userNamespace(pod) },
    );
    linux.uidMappings = [...uids];
    linux.gidMappings = [...gids];
  }
  return linux;
}

function mountsOf(base: readonly OciMount[], pod: SandboxSpecRequest["pod"], isPrivileged: boolean): OciMount[] {
  const { config } = pod;
  const hasHostSys =
    hasHostNetwork(config) &&
    config.linux?.securityContext?.namespaceOptions?.usernsOptions?.mode === NamespaceMode.POD;
  const left = new Set(["/run", hostShm, ...(hasHostSys ? ["/sys"] : [])]);
  const mounts: OciMount[] = [
    ...base.filter(({ destination }) => !left.has(destination)),
    {
      source: hasHostIpc(config) ? hostShm : podFiles.shm(pod),
      destination: hostShm,
      type: "bind",
      options: [...bindOptions],
    },
    { source: podFiles.resolvConf(pod), destination: "/etc/resolv.conf", type: "bind", options: [...bindOptions] },
    // The kernel does not let a user namespace mount a sysfs of a network that it does not own.
    ...(hasHostSys
      ? [{ source: "/sys", destination: "/sys", type: "bind", options: ["rbind", "rro", "nosuid", "nodev", "noexec"] }]
      : []),
  ];
  return isPrivileged
    ? mounts.map((mount) =>
        cleanPath(mount.destination) === "/sys"
          ? { ...mount, options: (mount.options ?? []).map((option) => (option === "ro" ? "rw" : option)) }
          : mount,
      )
    : mounts;
}

/** Ports and ping are open to everybody in a network of the pod's own. */
function sysctlsOf(
  config: PodSandboxConfig,
  settings: Pick<CriSettings, "enableUnprivilegedPorts" | "enableUnprivilegedIcmp">,
): Record<string, string> {
  const sysctls = { ...config.linux?.sysctls };
  const hasOwnUsers = config.linux?.securityContext?.namespaceOptions?.usernsOptions?.mode === NamespaceMode.POD;
  if (!hasHostNetwork(config)) {
    if (settings.enableUnprivilegedPorts) {
      sysctls["net.ipv4.ip_unprivileged_port_start"] ??= "0";
    }
    if (settings.enableUnprivilegedIcmp && !hasOwnUsers) {
      sysctls["net.ipv4.ping_group_range"] ??= "0 2147483647";
    }
  }
  return sysctls;
}

/** @source containerd v2.3.4 internal/cri/annotations/annotations.go `SandboxCPUPeriod` and those after it */
function resourceAnnotations({ linux }: PodSandboxConfig): Record<string, string> {
  const resources = linux?.resources;
  return resources === undefined
    ? {}
    : {
        "io.kubernetes.cri.sandbox-cpu-period": String(resources.cpuPeriod),
        "io.kubernetes.cri.sandbox-cpu-quota": String(resources.cpuQuota),
        "io.kubernetes.cri.sandbox-cpu-shares": String(resources.cpuShares),
        "io.kubernetes.cri.sandbox-memory": String(resources.memoryLimitInBytes),
      };
}
