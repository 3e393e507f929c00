import { readFile } from "node:fs/promises";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import type { PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import type { CriSettings } from "../config.ts";
import type { Machine } from "../containers/machine.ts";
import { defaultCapabilities } from "../containers/spec/default-spec.ts";
import type { OciSeccomp } from "../containers/spec/oci-spec.ts";
import { defaultSeccompProfile } from "../containers/spec/seccomp-profile.ts";
import { chooseSeccomp } from "../containers/spec/security-profile.ts";

/**
 * The filter of system calls of a pause container.
 *
 * @throws {@link FlotillaError} `unknown` with containerd's text when it is not supported, or a profile can't be read.
 * @source containerd v2.3.4 internal/cri/server/podsandbox/sandbox_run_linux.go `sandboxContainerSpecOpts`
 */
export async function pauseSeccomp(
  { linux }: PodSandboxConfig,
  settings: Pick<CriSettings, "unsetSeccompProfile">,
  machine: Machine,
): Promise<OciSeccomp | undefined> {
  const context = linux?.securityContext;
  const confinement = chooseSeccomp({
    profile: context?.seccomp,
    path: context?.seccompProfilePath ?? "",
    privileged: context?.privileged ?? false,
    isSupported: machine.hasSeccomp,
    unset: settings.unsetSeccompProfile,
  });
  switch (confinement.kind) {
    case "none":
      return undefined;
    case "default":
      return defaultSeccompProfile({
        machine: machine.architecture,
        bounding: defaultCapabilities,
        hasOwnPtrace: machine.hasOwnPtrace,
      });
    default:
      try {
        return JSON.parse(await readFile(confinement.name, "utf8")) as OciSeccomp;
      } catch (error) {
        throw new FlotillaError(
          ErrorKind.Unknown,
          `cannot load seccomp profile "${confinement.name}": ${errorMessage(error)}`,
        );
      }
  }
}
