import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { NamespaceMode, type PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import type { CriSettings } from "../config.ts";
import type { RuntimeSettings } from "../runtime-settings.ts";

/** Marks pods that are not trusted. @source containerd v2.3.4 internal/cri/annotations/annotations.go `UntrustedWorkload` */
const untrustedAnnotation = "io.kubernetes.cri.untrusted-workload";
/** @source containerd v2.3.4 internal/cri/config/config.go `RuntimeUntrusted` */
const untrustedHandler = "untrusted";

/**
 * The runtime of a pod.
 *
 * @throws {@link FlotillaError} `unknown` with containerd's text when there is none, or when an untrusted pod wants what it must not have.
 * @source containerd v2.3.4 internal/cri/config/config.go `GetSandboxRuntime`
 */
export function findRuntime(
  { runtimes, defaultRuntimeName }: Pick<CriSettings, "runtimes" | "defaultRuntimeName">,
  config: PodSandboxConfig,
  handler: string,
  podId: string,
): RuntimeSettings {
  const context = `unable to get OCI runtime for sandbox ${quote(podId)}`;
  const fail = (reason: string): FlotillaError => new FlotillaError(ErrorKind.Unknown, `${context}: ${reason}`);
  let name = handler || defaultRuntimeName;
  if (config.annotations[untrustedAnnotation] === "true") {
    if (handler !== "" && handler !== untrustedHandler) {
      throw fail("untrusted workload with explicit runtime handler is not allowed");
    }
    if (usesHost(config)) {
      throw fail("untrusted workload with host access is not allowed");
    }
    name = untrustedHandler;
  }
  const runtime = runtimes.get(name);
  if (runtime === undefined) {
    throw fail(`no runtime for ${quote(name)} is configured`);
  }
  return runtime;
}

function usesHost({ linux }: PodSandboxConfig): boolean {
  const { network, pid, ipc } = linux?.securityContext?.namespaceOptions ?? {};
  return [network, pid, ipc].includes(NamespaceMode.NODE);
}
