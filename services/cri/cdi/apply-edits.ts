import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { OciDevice, OciHooks, OciMount, OciSpec } from "../containers/spec/oci-spec.ts";
import { mergeEnvironment } from "../containers/spec/process-arguments.ts";
import type { ContainerEdits, DeviceNode } from "./cdi-document.ts";

/** Finds a device of the machine. @throws When nothing is there, or something else. */
export type DeviceFinder = (path: string) => Promise<OciDevice>;

/**
 * Makes the changes of devices in a specification, in their order.
 *
 * @param spec - Is changed.
 * @throws {@link FlotillaError} `unknown` when the machine does not have a device as it is described.
 * @source container-device-interface v1.1 pkg/cdi/container-edits.go `Apply`
 */
export async function applyEdits(
  spec: OciSpec,
  all: readonly ContainerEdits[],
  findDevice: DeviceFinder,
): Promise<void> {
  const process = (spec.process ??= { cwd: "/", user: { uid: 0, gid: 0 } });
  const linux = (spec.linux ??= {});
  process.env = mergeEnvironment(
    process.env ?? [],
    all.flatMap(({ env = [] }) => env),
  );
  for (const node of all.flatMap(({ deviceNodes = [] }) => deviceNodes)) {
    const device = { ...ownerOf(process.user), ...(await describeNode(node, findDevice)) };
    linux.devices = [...(linux.devices ?? []).filter(({ path }) => path !== device.path), device];
    if (device.type === "b" || device.type === "c") {
      const { type, major, minor } = device;
      const rule = { allow: true, type, major, minor, access: node.permissions || "rwm" };
      linux.resources = { ...linux.resources, devices: [...(linux.resources?.devices ?? []), rule] };
    }
  }
  for (const { hostInterfaceName = "", name = "" } of all.flatMap(({ netDevices = [] }) => netDevices)) {
    linux.netDevices = { ...linux.netDevices, [hostInterfaceName]: { name } };
  }
  addMounts(spec, all);
  for (const { hookName, path = "", args, env, timeout } of all.flatMap(({ hooks = [] }) => hooks)) {
    const kind = hookName as keyof OciHooks;
    const hook = {
      path,
      ...(args === undefined ? {} : { args: [...args] }),
      ...(env === undefined ? {} : { env: [...env] }),
      ...(timeout === undefined ? {} : { timeout }),
    };
    spec.hooks = { ...spec.hooks, [kind]: [...(spec.hooks?.[kind] ?? []), hook] };
  }
  const rdt = all.findLast(({ intelRdt }) => intelRdt !== undefined)?.intelRdt;
  if (rdt !== undefined) {
    linux.intelRdt = { ...rdt };
  }
  const groups = all.flatMap(({ additionalGids = [] }) => additionalGids).filter((gid) => gid !== 0);
  if (groups.length > 0) {
    process.user.additionalGids = [...new Set([...(process.user.additionalGids ?? []), ...groups])];
  }
}

function ownerOf({ uid, gid }: { readonly uid: number; readonly gid: number }): Pick<OciDevice, "uid" | "gid"> {
  return { ...(uid > 0 ? { uid } : {}), ...(gid > 0 ? { gid } : {}) };
}

/** Mounts come in the order of their depth, so that none hides one that was made before. @source container-device-interface v1.1 pkg/cdi/container-edits.go `orderedMounts` */
function addMounts(spec: OciSpec, all: readonly ContainerEdits[]): void {
  const added = all.flatMap(({ mounts = [] }) => mounts);
  if (added.length === 0) {
    return;
  }
  let mounts: OciMount[] = spec.mounts ?? [];
  for (const { hostPath, containerPath = "", options, type } of added) {
    const mount = {
      destination: containerPath,
      ...(type === undefined ? {} : { type }),
      ...(hostPath === undefined ? {} : { source: hostPath }),
      ...(options === undefined ? {} : { options: [...options] }),
    };
    mounts = [...mounts.filter(({ destination }) => destination !== containerPath), mount];
  }
  const depthOf = ({ destination }: OciMount): number => destination.split("/").filter((part) => part !== "").length;
  spec.mounts = mounts.toSorted((one, other) => depthOf(one) - depthOf(other));
}

/**
 * A device as it is described, and what is not said of it as the machine has it.
 *
 * @source container-device-interface v1.1 pkg/cdi/container-edits_unix.go `fillMissingInfo`
 */
async function describeNode(node: DeviceNode, findDevice: DeviceFinder): Promise<OciDevice> {
  const { path = "", type = "", major = 0, minor = 0, fileMode, uid, gid } = node;
  const hostPath = node.hostPath || path;
  const isWhole = type !== "" && (major !== 0 || type === "p");
  let found: OciDevice | undefined;
  try {
    found = await findDevice(hostPath);
  } catch (error) {
    // A vendor may say all that there is to say of a device that is not there yet.
    if (!isWhole) {
      throw wrapFailure(error, `failed to stat CDI host device ${quote(hostPath)}`);
    }
  }
  if (!isWhole && found !== undefined && type !== "" && type !== found.type) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `CDI device (${quote(path)}, ${quote(hostPath)}), host type mismatch (${type}, ${found.type})`,
    );
  }
  const numbers = major !== 0 || found === undefined || found.type === "p" ? { major, minor } : found;
  const mode = fileMode ?? found?.fileMode;
  return {
    path,
    type: type || (found?.type ?? ""),
    major: numbers.major,
    minor: numbers.minor,
    ...(mode === undefined ? {} : { fileMode: mode }),
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  };
}
