import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { SecurityProfile_ProfileType as ProfileType, type SecurityProfile } from "#gen/runtime/v1/api_pb.ts";

/** What confines a container: nothing, what the runtime has for all, or a profile of the machine by name or path. */
export type Confinement =
  | { readonly kind: "none" }
  | { readonly kind: "default" }
  | { readonly kind: "named"; readonly name: string };

/** Comes before the name of a profile of the machine. @source Kubernetes, annotations of security profiles */
const localPrefix = "localhost/";

interface ProfileWishes {
  readonly profile: SecurityProfile | undefined;
  /** The older way to say it: `runtime/default`, `unconfined` or `localhost/NAME`; "" for nothing. */
  readonly path: string;
  readonly privileged: boolean;
  /** Whether the kernel can do it. */
  readonly isSupported: boolean;
}

const none: Confinement = { kind: "none" };

/**
 * Which filter of system calls a container gets. Who is privileged gets none, and so does who asks for none.
 *
 * @param wishes.unset - What counts where nothing is said, in the older way; "" for no filter.
 * @throws {@link FlotillaError} `unknown`, in containerd's words.
 * @source containerd v2.3.4 internal/cri/sputil/seccomp_linux.go
 */
export function chooseSeccomp({
  profile,
  path,
  privileged,
  isSupported,
  unset,
}: ProfileWishes & { readonly unset: string }): Confinement {
  const chosen = profile ?? profileOfPath(path === "" ? unset : path);
  if (privileged) {
    return none;
  }
  if (!isSupported) {
    return refuseConfined(chosen, "seccomp");
  }
  return chosen === undefined ? none : confinementOf(chosen, "seccomp");
}

/**
 * Which profile of AppArmor a container gets: the runtime's own where nothing is said, and none where the kernel has no AppArmor and none is asked for.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words.
 * @source containerd v2.3.4 internal/cri/sputil/apparmor_linux.go
 */
export function chooseApparmor({ profile, path, privileged, isSupported }: ProfileWishes): Confinement {
  const chosen = profile ?? profileOfPath(path);
  if (!isSupported) {
    return refuseConfined(chosen, "apparmor");
  }
  const confinement = chosen === undefined ? ({ kind: "default" } as const) : confinementOf(chosen, "apparmor");
  return confinement.kind === "default" && privileged ? none : confinement;
}

type WrittenProfile = Pick<SecurityProfile, "profileType" | "localhostRef">;

/** @source containerd v2.3.4 internal/cri/sputil/securityprofile_linux.go `generateSecurityProfile` */
function profileOfPath(path: string): WrittenProfile | undefined {
  switch (path) {
    case "":
      return undefined;
    case "runtime/default":
    case "docker/default":
      return { profileType: ProfileType.RuntimeDefault, localhostRef: "" };
    case "unconfined":
      return { profileType: ProfileType.Unconfined, localhostRef: "" };
    default:
      if (!path.startsWith(localPrefix)) {
        throw new FlotillaError(ErrorKind.Unknown, `invalid profile ${quote(path)}`);
      }
      return { profileType: ProfileType.Localhost, localhostRef: path.slice(localPrefix.length) };
  }
}

function refuseConfined(profile: WrittenProfile | undefined, feature: string): Confinement {
  if (profile !== undefined && profile.profileType !== ProfileType.Unconfined) {
    throw new FlotillaError(ErrorKind.Unknown, `${feature} is not supported`);
  }
  return none;
}

function confinementOf({ profileType, localhostRef }: WrittenProfile, feature: string): Confinement {
  if (profileType !== ProfileType.Localhost && localhostRef !== "") {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `${feature} config invalid LocalhostRef must only be set if ProfileType is Localhost`,
    );
  }
  switch (profileType) {
    case ProfileType.Unconfined:
      return none;
    case ProfileType.RuntimeDefault:
      return { kind: "default" };
    case ProfileType.Localhost:
      return {
        kind: "named",
        name: localhostRef.startsWith(localPrefix) ? localhostRef.slice(localPrefix.length) : localhostRef,
      };
    default:
      throw new FlotillaError(ErrorKind.Unknown, `${feature} unknown ProfileType`);
  }
}
