import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type IDMapping, type Mount, MountPropagation } from "#gen/runtime/v1/api_pb.ts";
import { cleanPath } from "./cgroups-path.ts";
import { enumName } from "./enum-name.ts";
import type { OciIdMapping, OciMount } from "./oci-spec.ts";

/** A mount that a container wants, with what the machine says of its source. */
export interface HostMount {
  readonly mount: Mount;
  /** The source with its links resolved; it is there. */
  readonly source: string;
  /** The mount that the source lies on, and what it is shared with, as in /proc/self/mountinfo. */
  readonly below: { readonly mountPoint: string; readonly optionalFields: readonly string[] } | undefined;
}

/** Where mounts pass on what is mounted in them. */
type RootPropagation = "rshared" | "rslave";

export interface MountsWishes {
  readonly defaults: readonly OciMount[];
  readonly mounts: readonly HostMount[];
  /** Whether the runtime can make all below a mount read-only. */
  readonly canRecursiveReadOnly: boolean;
  readonly isCgroupWritable: boolean;
  /** Options of the machine's cgroup file system, which a container without a cgroup namespace would otherwise change for all. */
  readonly hostCgroupOptions: readonly string[] | undefined;
}

/**
 * All mounts of a container: those that every container has, without what the container's own take the place of, and then its own, those with fewer parts in their path
 * first, so that none hides another.
 *
 * @returns Also how the root must pass mounts on, if any of its own does.
 * @throws {@link FlotillaError} `unknown`, in containerd's words: a source that is not shared as the mount asks, or read-only wishes that contradict each other.
 * @source containerd v2.3.4 internal/cri/opts/spec_linux_opts.go `withMounts`
 */
export function containerMounts(wishes: MountsWishes): {
  readonly mounts: OciMount[];
  readonly rootPropagation: RootPropagation | undefined;
} {
  const own = wishes.mounts.toSorted((one, other) => depthOf(one.mount) - depthOf(other.mount));
  const places = new Set(own.map(({ mount }) => cleanPath(mount.containerPath)));
  const kept = [...wishes.defaults, cgroupMount(wishes)].filter(({ destination }) => {
    const place = cleanPath(destination);
    return !places.has(place) && !(places.has("/dev") && place.startsWith("/dev/"));
  });
  let rootPropagation: RootPropagation | undefined;
  const made = own.map((hostMount) => {
    const { propagation, option } = propagationOf(hostMount);
    rootPropagation = rootPropagation === "rshared" ? "rshared" : (propagation ?? rootPropagation);
    return bindMount(hostMount, ["rbind", option, accessOf(hostMount.mount, wishes.canRecursiveReadOnly)]);
  });
  return { mounts: [...kept, ...made], rootPropagation };
}

/** Those of a list that the container's own mounts do not take the place of. */
export function withoutOverridden(extra: readonly Mount[], own: readonly Mount[]): Mount[] {
  return extra.filter((mount) => !isMountedAt(mount.containerPath, own));
}

/** Tells whether a place of the container is among those that it mounts itself. @source containerd v2.3.4 internal/cri/server/helpers.go `isInCRIMounts` */
export function isMountedAt(place: string, mounts: readonly Mount[]): boolean {
  return mounts.some(({ containerPath }) => cleanPath(containerPath) === cleanPath(place));
}

/** Mappings as a specification has them. */
export function idMappings(mappings: readonly IDMapping[]): OciIdMapping[] {
  return mappings.map(({ containerId, hostId, length }) => ({
    containerID: containerId,
    hostID: hostId,
    size: length,
  }));
}

function depthOf({ containerPath }: Mount): number {
  return cleanPath(containerPath).split("/").length;
}

function cgroupMount({ isCgroupWritable, hostCgroupOptions }: MountsWishes): OciMount {
  const shared = (hostCgroupOptions ?? []).filter(
    (option) => option === "nsdelegate" || option === "memory_recursiveprot",
  );
  return {
    source: "cgroup",
    destination: "/sys/fs/cgroup",
    type: "cgroup",
    options: ["nosuid", "noexec", "nodev", "relatime", isCgroupWritable ? "rw" : "ro", ...shared],
  };
}

function propagationOf({ mount, source, below }: HostMount): {
  readonly propagation: RootPropagation | undefined;
  readonly option: string;
} {
  const fields = below?.optionalFields ?? [];
  const isShared = fields.some((field) => field.startsWith("shared:"));
  const isSlave = fields.some((field) => field.startsWith("master:"));
  const refuse = (what: string): FlotillaError =>
    new FlotillaError(
      ErrorKind.Unknown,
      `path ${quote(source)} is mounted on ${quote(below?.mountPoint ?? "")} but it is not a ${what} mount`,
    );
  switch (mount.propagation) {
    case MountPropagation.PROPAGATION_BIDIRECTIONAL:
      if (!isShared) {
        throw refuse("shared");
      }
      return { propagation: "rshared", option: "rshared" };
    case MountPropagation.PROPAGATION_HOST_TO_CONTAINER:
      if (!isShared && !isSlave) {
        throw refuse("shared or slave");
      }
      return { propagation: "rslave", option: "rslave" };
    default:
      return { propagation: undefined, option: "rprivate" };
  }
}

function accessOf({ readonly, recursiveReadOnly, propagation, hostPath }: Mount, canRecursive: boolean): string {
  const shown = `(hostPath=${quote(hostPath)})`;
  if (!readonly) {
    if (recursiveReadOnly) {
      throw new FlotillaError(ErrorKind.Unknown, `recursive read-only mount conflicts with RW mount ${shown}`);
    }
    return "rw";
  }
  if (!recursiveReadOnly) {
    return "ro";
  }
  if (!canRecursive) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `RROUnsupported: runtime handler does not support recursive read-only mounts ${shown}`,
    );
  }
  if (propagation !== MountPropagation.PROPAGATION_PRIVATE) {
    const name = enumName(MountPropagation, propagation);
    throw new FlotillaError(
      ErrorKind.Unknown,
      `recursive read-only mount needs private propagation, got ${quote(name)} ${shown}`,
    );
  }
  return "rro";
}

function bindMount({ mount, source }: HostMount, options: string[]): OciMount {
  const uidMappings = idMappings(mount.uidMappings);
  const gidMappings = idMappings(mount.gidMappings);
  return {
    source,
    destination: mount.containerPath,
    type: "bind",
    options,
    ...(uidMappings.length > 0 ? { uidMappings } : {}),
    ...(gidMappings.length > 0 ? { gidMappings } : {}),
  };
}
