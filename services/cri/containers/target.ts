import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type ContainerConfig, ContainerState, NamespaceMode } from "#gen/runtime/v1/api_pb.ts";
import type { Container } from "../store/container.ts";
import type { Pod } from "../store/pod.ts";
import type { ContainerParts } from "./container-parts.ts";

/**
 * The process whose PID namespace a container shares: that of another container where it asks for it, else that which keeps the pod.
 *
 * @throws {@link FlotillaError} when it is not of the same pod or does not run.
 * @source containerd v2.3.4 internal/cri/server/helpers.go `validateTargetContainer`
 */
export function targetPid(
  { containers }: Pick<ContainerParts, "containers">,
  pod: Pod,
  config: ContainerConfig,
): number {
  const options = config.linux?.securityContext?.namespaceOptions;
  if (options?.pid !== NamespaceMode.TARGET) {
    return pod.pid;
  }
  const { targetId } = options;
  let target: Container;
  try {
    target = containers.get(targetId);
  } catch (error) {
    throw wrapFailure(error, `invalid target container: container ${quote(targetId)} does not exist`);
  }
  if (target.metadata.podId !== pod.id) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `invalid target container: container ${quote(targetId)} (sandbox ${target.metadata.podId}) does not belong to sandbox ${pod.id}`,
    );
  }
  if (target.state !== ContainerState.CONTAINER_RUNNING) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid target container: container ${quote(targetId)} is not running`);
  }
  return target.status.pid;
}
