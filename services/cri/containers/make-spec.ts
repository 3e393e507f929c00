import { readFile } from "node:fs/promises";
import { ErrorKind, errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Mount as RootMount } from "#gen/containerd/types/mount_pb.ts";
import {
  type ContainerConfig,
  type Mount,
  type PodSandboxConfig,
  SupplementalGroupsPolicy,
} from "#gen/runtime/v1/api_pb.ts";
import { loadDefaultProfile, requireProfile } from "../apparmor/load-profile.ts";
import { wantedDevices } from "../cdi/device-name.ts";
import type { LocalImage } from "../images/local-image.ts";
import type { RuntimeSettings } from "../runtime-settings.ts";
import type { Labels } from "../selinux/selinux.ts";
import type { Pod } from "../store/pod.ts";
import type { ContainerParts } from "./container-parts.ts";
import { allDevices, findDevices } from "./host-devices.ts";
import { findSources, podMounts } from "./host-mounts.ts";
import { readImageUsers } from "./image-users.ts";
import { type ContainerSpecRequest, containerSpec, type RuntimeRules } from "./spec/container-spec.ts";
import { parseExactJson } from "./spec/exact-json.ts";
import { withoutOverridden } from "./spec/mounts.ts";
import type { OciSeccomp, OciSpec } from "./spec/oci-spec.ts";
import { processUser } from "./spec/process-user.ts";
import { chooseClasses } from "./spec/resource-class.ts";
import { type Confinement, chooseApparmor, chooseSeccomp } from "./spec/security-profile.ts";
import { targetPid } from "./target.ts";

/** Name of the profile of AppArmor that containers get. @source containerd v2.3.4 internal/cri/sputil/securityprofile_linux.go `appArmorDefaultProfileName` */
const defaultApparmorProfile = "cri-containerd.apparmor.d";

/** What a container's specification is made of. */
export interface SpecMaking {
  readonly id: string;
  readonly pod: Pod;
  readonly runtime: RuntimeSettings;
  readonly config: ContainerConfig;
  readonly sandboxConfig: PodSandboxConfig;
  readonly image: LocalImage;
  readonly rootMounts: readonly RootMount[];
  /** Labels of SELinux that the container has. */
  readonly labels: Labels;
  /** Places of the image that are volumes. */
  readonly volumes: readonly Mount[];
}

/**
 * Looks up what a container's specification depends on, and makes it.
 *
 * @throws {@link FlotillaError} in containerd's words.
 */
export async function makeSpec(parts: ContainerParts, making: SpecMaking): Promise<OciSpec> {
  let spec: OciSpec;
  try {
    spec = containerSpec(await gather(parts, making));
  } catch (error) {
    throw wrapFailure(error, `failed to generate container ${quote(making.id)} spec`);
  }
  await giveCdiDevices(parts, making.config, spec);
  return spec;
}

async function gather(parts: ContainerParts, making: SpecMaking): Promise<ContainerSpecRequest> {
  const { settings, selinux } = parts;
  const machine = await parts.machine();
  const { id, pod, config, sandboxConfig, image, runtime, labels } = making;
  const blockIo = chooseClasses({
    containerName: config.metadata?.name ?? "",
    annotations: config.annotations,
    podAnnotations: sandboxConfig.annotations,
    blockIoClasses: parts.blockIoClasses,
    ignoresBlockIo: settings.ignoreBlockioNotEnabledErrors,
    ignoresRdt: settings.ignoreRdtNotEnabledErrors,
  });
  const security = config.linux?.securityContext;
  const privileged = security?.privileged === true;
  const extra = [...(await podMounts(pod, config)), ...making.volumes];
  const mounts = await findSources([...config.mounts, ...withoutOverridden(extra, config.mounts)]);
  for (const { source } of mounts.filter(({ mount }) => mount.selinuxRelabel)) {
    await selinux.relabel(source, labels.mount);
  }
  const getsDevices = privileged && !runtime.privilegedWithoutHostDevices;
  return {
    id,
    sandboxId: pod.id,
    config,
    pod: sandboxConfig,
    image: image.config,
    imageName: config.image?.userSpecifiedImage || (image.references[0] ?? ""),
    runtime: await runtimeRules(runtime),
    machine,
    user: await userOf(parts, making),
    labels: { process: selinux.effective(labels.process, { privileged, runtime: runtime.type }), mount: labels.mount },
    mounts,
    canRecursiveReadOnly: machine.hasRecursiveReadOnly && runtime.type === "io.containerd.runc.v2",
    devices: await findDevices(config.devices),
    hostDevices: getsDevices ? await allDevices() : [],
    blockIo,
    givesDevicesAway: settings.deviceOwnershipFromSecurityContext,
    disableProcMount: settings.disableProcMount,
    seccomp: await seccompOf(
      chooseSeccomp({
        profile: security?.seccomp,
        path: security?.seccompProfilePath ?? "",
        privileged,
        isSupported: machine.hasSeccomp,
        unset: settings.unsetSeccompProfile,
      }),
    ),
    apparmorProfile: await apparmorOf(
      chooseApparmor({
        profile: security?.apparmor,
        path: security?.apparmorProfile ?? "",
        privileged,
        isSupported: machine.hasApparmor,
      }),
    ),
    sandboxPid: pod.pid,
    targetPid: targetPid(parts, pod, config),
  };
}

async function userOf({ settings }: ContainerParts, { config, image, rootMounts }: SpecMaking) {
  const security = config.linux?.securityContext;
  const policy = security?.supplementalGroupsPolicy ?? SupplementalGroupsPolicy.Merge;
  if (policy !== SupplementalGroupsPolicy.Merge && policy !== SupplementalGroupsPolicy.Strict) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `not implemented in this containerd release: SupplementalGroupsPolicy=${policy}`,
    );
  }
  const users = await readImageUsers(rootMounts, `${settings.stateDirectory}/tmpmounts`);
  return processUser(
    {
      username: security?.runAsUsername ?? "",
      uid: security?.runAsUser?.value,
      gid: security?.runAsGroup?.value,
      imageUser: image.config.user,
      supplementalGroups: security?.supplementalGroups ?? [],
      mergesImageGroups: policy === SupplementalGroupsPolicy.Merge,
    },
    users,
  );
}

async function runtimeRules(runtime: RuntimeSettings): Promise<RuntimeRules> {
  return {
    baseSpec: runtime.baseRuntimeSpec === "" ? undefined : await readBaseSpec(runtime.baseRuntimeSpec),
    isCgroupWritable: runtime.cgroupWritable,
    privilegedWithoutHostDevices: runtime.privilegedWithoutHostDevices,
    privilegedMayUseAllDevices: runtime.privilegedWithoutHostDevicesAllDevicesAllowed,
    podAnnotations: runtime.podAnnotations,
    containerAnnotations: runtime.containerAnnotations,
  };
}

async function readBaseSpec(path: string): Promise<OciSpec> {
  try {
    return parseExactJson(await readFile(path, "utf8")) as OciSpec;
  } catch (error) {
    throw wrapFailure(error, `can't load base OCI spec ${quote(path)}`);
  }
}

async function seccompOf(confinement: Confinement): Promise<Confinement | OciSeccomp> {
  if (confinement.kind !== "named") {
    return confinement;
  }
  const { name } = confinement;
  let text: string;
  try {
    text = await readFile(name, "utf8");
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `cannot load seccomp profile ${quote(name)}: ${errorMessage(error)}`);
  }
  try {
    return parseExactJson(text) as OciSeccomp;
  } catch (error) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `decoding seccomp profile failed ${quote(name)}: ${errorMessage(error)}`,
    );
  }
}

async function apparmorOf(confinement: Confinement): Promise<string> {
  if (confinement.kind === "none") {
    return "";
  }
  if (confinement.kind === "default") {
    await loadDefaultProfile(defaultApparmorProfile);
    return defaultApparmorProfile;
  }
  await requireProfile(confinement.name);
  return confinement.name;
}

/**
 * Gives a container the devices of the Container Device Interface that it asks for.
 *
 * @source containerd v2.3.4 internal/cri/server/container_create_linux.go `containerSpecOpts`
 */
async function giveCdiDevices(
  { settings, cdi }: ContainerParts,
  config: ContainerConfig,
  spec: OciSpec,
): Promise<void> {
  const { CDIDevices: devices, annotations } = config;
  if (!settings.enableCdi) {
    if (devices.length > 0) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `failed to get container spec opts: CDI devices (${devices.map(({ name }) => name).join(", ")}) requested but CDI support is explicitly disabled`,
      );
    }
    return;
  }
  try {
    await cdi.inject(spec, wantedDevices(devices, annotations));
  } catch (error) {
    throw wrapFailure(error, "failed to create containerd container");
  }
}
