import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { ContainerState } from "#gen/runtime/v1/api_pb.ts";
import { enumName } from "../containers/spec/enum-name.ts";
import type { ContainerIo } from "../logs/container-io.ts";

/** What streams have to know of a container. */
export interface StreamedContainer {
  readonly id: string;
  readonly state: ContainerState;
  /** In the state that a reboot forgets. */
  readonly stateDirectory: string;
  /** Whether the end of the first client's input is the end of the container's. */
  readonly stdinOnce: boolean;
  /** Input and output; undefined for a container that does not run. */
  readonly io: ContainerIo | undefined;
}

/** Where containers are found, by their id or by the beginning of it. */
export interface ContainerFinder {
  /** @throws {@link FlotillaError} `not_found` */
  get(id: string): StreamedContainer;
}

/**
 * Finds a container that runs.
 *
 * @param context - What is said of one that is not there.
 * @throws {@link FlotillaError} `not_found`; `unknown` when it does not run.
 * @source containerd v2.3.4 internal/cri/server/container_exec.go `Exec`, container_attach.go `Attach`
 */
export function findRunning(containers: ContainerFinder, id: string, context: string): StreamedContainer {
  let container: StreamedContainer;
  try {
    container = containers.get(id);
  } catch (error) {
    throw wrapFailure(error, context);
  }
  if (container.state !== ContainerState.CONTAINER_RUNNING) {
    throw new FlotillaError(ErrorKind.Unknown, `container is in ${enumName(ContainerState, container.state)} state`);
  }
  return container;
}
