import { mkdir, realpath, stat } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { systemErrorCode, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import {
  type ContainerConfig,
  type IDMapping,
  type Mount,
  MountPropagation,
  MountSchema,
  NamespaceMode,
} from "#gen/runtime/v1/api_pb.ts";
import { type MountInfo, readMountInfo } from "#linux/mount-info.ts";
import type { Pod } from "../store/pod.ts";
import { type HostMount, isMountedAt, withoutOverridden } from "./spec/mounts.ts";

/**
 * Finds out what the machine says of the sources of mounts. Sources that are not there are made, as directories.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words.
 * @source containerd v2.3.4 internal/cri/opts/spec_linux_opts.go `withMounts`
 */
export async function findSources(mounts: readonly Mount[]): Promise<HostMount[]> {
  const needsTable = mounts.some(({ propagation }) => propagation !== MountPropagation.PROPAGATION_PRIVATE);
  const table = needsTable ? await readMountInfo() : [];
  return await Promise.all(
    mounts.map(async (mount) => {
      const source = await findSource(mount.hostPath);
      return { mount, source, below: needsTable ? mountBelow(source, table) : undefined };
    }),
  );
}

async function findSource(path: string): Promise<string> {
  try {
    await stat(path);
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") {
      throw wrapFailure(error, `failed to stat ${quote(path)}`);
    }
    await mkdir(path, { recursive: true, mode: 0o755 }).catch((cause: unknown) => {
      throw wrapFailure(cause, `failed to mkdir ${quote(path)}`);
    });
  }
  try {
    return await realpath(path);
  } catch (error) {
    throw wrapFailure(error, `failed to resolve symlink ${quote(path)}`);
  }
}

/** The mount that a path lies on: the one with the longest place, and of those on one place the last. */
export function mountBelow(path: string, table: readonly MountInfo[]): HostMount["below"] {
  let found: MountInfo | undefined;
  for (const info of table) {
    const { mountPoint } = info;
    const holds = mountPoint === "/" || path === mountPoint || path.startsWith(`${mountPoint}/`);
    if (holds && mountPoint.length >= (found?.mountPoint.length ?? 0)) {
      found = info;
    }
  }
  return found && { mountPoint: found.mountPoint, optionalFields: found.propagation };
}

/**
 * The files of a pod that every container sees, where it mounts nothing else there: names, resolver and shared memory.
 *
 * @source containerd v2.3.4 internal/cri/server/container_create.go `linuxContainerMounts`
 */
export async function podMounts(pod: Pod, config: ContainerConfig): Promise<Mount[]> {
  const security = config.linux?.securityContext;
  const userns = security?.namespaceOptions?.usernsOptions;
  const readonly = security?.readonlyRootfs === true;
  const isHostIpc = security?.namespaceOptions?.ipc === NamespaceMode.NODE;
  const file = (containerPath: string, name: string): Mount =>
    create(MountSchema, {
      containerPath,
      hostPath: `${pod.directory}/${name}`,
      readonly,
      selinuxRelabel: true,
      uidMappings: [...(userns?.uids ?? [])],
      gidMappings: [...(userns?.gids ?? [])],
    });
  const shm = isHostIpc ? "/dev/shm" : `${pod.stateDirectory}/shm`;
  const wanted = [
    file("/etc/hostname", "hostname"),
    file("/etc/hosts", "hosts"),
    file("/etc/resolv.conf", "resolv.conf"),
    // Never mapped to other users: it begins empty, and older kernels can't.
    create(MountSchema, { containerPath: "/dev/shm", hostPath: shm, selinuxRelabel: !isHostIpc }),
  ].filter(({ containerPath }) => !isMountedAt(containerPath, config.mounts));
  const present = await Promise.all(wanted.map(({ hostPath }) => isThere(hostPath)));
  return wanted.filter((_mount, index) => present[index] === true);
}

/** A place of the container that its image wants to be a volume, and the directory that it becomes. */
export interface ImageVolume {
  readonly directory: string;
  readonly mount: Mount;
}

/**
 * The volumes of an image that the container mounts nothing else on.
 *
 * @param place.directory - Of the container.
 * @param place.newId - Makes a name that no other volume has.
 * @source containerd v2.3.4 internal/cri/server/container_create.go `volumeMounts`
 */
export function imageVolumes(
  volumes: readonly string[],
  config: ContainerConfig,
  { directory, newId }: { readonly directory: string; readonly newId: () => string },
): ImageVolume[] {
  const userns = config.linux?.securityContext?.namespaceOptions?.usernsOptions;
  const mapped = (mappings: readonly IDMapping[] | undefined): IDMapping[] => [...(mappings ?? [])];
  const wanted = volumes.map((volume) => {
    const path = `${directory}/volumes/${newId()}`;
    const mount = create(MountSchema, {
      containerPath: volume.startsWith("/") ? volume : `/${volume}`,
      hostPath: path,
      selinuxRelabel: true,
      uidMappings: mapped(userns?.uids),
      gidMappings: mapped(userns?.gids),
    });
    return { directory: path, mount };
  });
  const kept = new Set(
    withoutOverridden(
      wanted.map(({ mount }) => mount),
      config.mounts,
    ),
  );
  return wanted.filter(({ mount }) => kept.has(mount));
}

function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
