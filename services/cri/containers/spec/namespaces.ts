import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type IDMapping, NamespaceMode, type NamespaceOption, type UserNamespace } from "#gen/runtime/v1/api_pb.ts";
import { enumName } from "./enum-name.ts";
import { idMappings } from "./mounts.ts";
import type { OciIdMapping, OciLinux, OciNamespace } from "./oci-spec.ts";

/** The users of a pod's user namespace; empty lists for those of the machine. */
export interface UserMappings {
  readonly uids: readonly OciIdMapping[];
  readonly gids: readonly OciIdMapping[];
}

/**
 * The users of a pod's user namespace, as the kubelet says it.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words, when the wishes contradict each other.
 * @source containerd v2.3.4 internal/cri/server/helpers.go `parseUsernsIDs`
 */
export function userMappings(userns: UserNamespace | undefined): UserMappings {
  if (userns === undefined) {
    return { uids: [], gids: [] };
  }
  const uids = singleMapping(userns.uids, "UID mapping");
  const gids = singleMapping(userns.gids, "GID mapping");
  const mode = quote(enumName(NamespaceMode, userns.mode));
  switch (userns.mode) {
    case NamespaceMode.NODE:
      if (uids.length > 0 || gids.length > 0) {
        throw new FlotillaError(
          ErrorKind.Unknown,
          `can't use user namespace mode ${mode} with mappings. Got ${uids.length} UID mappings and ${gids.length} GID mappings`,
        );
      }
      break;
    case NamespaceMode.POD:
      if (uids.length === 0 || gids.length === 0) {
        throw new FlotillaError(
          ErrorKind.Unknown,
          `can't use user namespace mode ${mode} without UID and GID mappings`,
        );
      }
      break;
    default:
      throw new FlotillaError(ErrorKind.Unknown, `unsupported user namespace mode: ${mode}`);
  }
  return { uids, gids };
}

function singleMapping(mappings: readonly IDMapping[], context: string): OciIdMapping[] {
  const [only, ...more] = mappings;
  if (more.length > 0) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `${context}: only one mapping line supported, got ${mappings.length} mapping lines`,
    );
  }
  if (only !== undefined && only.length < 1) {
    throw new FlotillaError(ErrorKind.Unknown, `${context}: invalid mapping length: ${only.length}`);
  }
  return only === undefined ? [] : idMappings([only]);
}

/** Tells whether two say the same of users. What makes no sense is the same as nothing. @source containerd v2.3.4 internal/cri/server/helpers.go `sameUsernsConfig` */
export function isSameUserNamespace(one: UserNamespace | undefined, other: UserNamespace | undefined): boolean {
  if (one === undefined || other === undefined) {
    return one === other;
  }
  try {
    return one.mode === other.mode && JSON.stringify(userMappings(one)) === JSON.stringify(userMappings(other));
  } catch (error) {
    if (error instanceof FlotillaError) {
      return false;
    }
    throw error;
  }
}

/** Tells whether a pod has users of its own. */
export function hasOwnUsers(options: NamespaceOption | undefined): boolean {
  return options?.usernsOptions?.mode === NamespaceMode.POD;
}

export interface PodNamespaces {
  /** Process that keeps the pod's namespaces. */
  readonly sandboxPid: number;
  /** Process whose PID namespace the container shares, if it has none of its own. */
  readonly targetPid: number;
}

/**
 * Puts a container into the namespaces of its pod.
 *
 * @throws {@link FlotillaError} `unknown` when its users make no sense.
 * @source containerd v2.3.4 internal/cri/opts/spec_opts.go `WithPodNamespaces`
 */
export function joinPodNamespaces(
  linux: OciLinux,
  options: NamespaceOption | undefined,
  { sandboxPid, targetPid }: PodNamespaces,
): void {
  const { uids, gids } = describeFailure(() => userMappings(options?.usernsOptions));
  setNamespace(linux, { type: "network", path: `/proc/${sandboxPid}/ns/net` });
  setNamespace(linux, { type: "ipc", path: `/proc/${sandboxPid}/ns/ipc` });
  setNamespace(linux, { type: "uts", path: `/proc/${sandboxPid}/ns/uts` });
  if ((options?.pid ?? NamespaceMode.POD) !== NamespaceMode.CONTAINER) {
    setNamespace(linux, { type: "pid", path: `/proc/${targetPid}/ns/pid` });
  }
  if (hasOwnUsers(options)) {
    setNamespace(linux, { type: "user", path: `/proc/${sandboxPid}/ns/user` });
    linux.uidMappings = [...(linux.uidMappings ?? []), ...uids];
    linux.gidMappings = [...(linux.gidMappings ?? []), ...gids];
  }
}

/** Puts a namespace in the place of one of its type, or behind all others. @source containerd v2.3.4 pkg/oci/spec_opts.go `WithLinuxNamespace` */
export function setNamespace(linux: OciLinux, namespace: OciNamespace): void {
  const present = linux.namespaces ?? [];
  linux.namespaces = present.some(({ type }) => type === namespace.type)
    ? present.map((old) => (old.type === namespace.type ? namespace : old))
    : [...present, namespace];
}

function describeFailure<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw wrapFailure(error, "user namespace configuration");
  }
}
