import { rm } from "node:fs/promises";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { together } from "#base/together.ts";
import { ContainerEventType, ContainerState } from "#gen/runtime/v1/api_pb.ts";
import { unmountRecursive } from "#linux/unmount.ts";
import { removeRoot } from "../images/prepare-root.ts";
import { type Container, removeStatus } from "../store/container.ts";
import type { ContainerParts } from "./container-parts.ts";
import { deleteRecord } from "./create.ts";
import { removeTask } from "./remove-task.ts";
import { stopContainer } from "./stop.ts";

/**
 * Removes a container, by force where it runs: its root file system, its record, its files.
 *
 * @throws {@link FlotillaError} in containerd's words; what is left then can be removed again.
 * @source containerd v2.3.4 internal/cri/server/container_remove.go `RemoveContainer`
 */
export async function removeContainer(
  parts: ContainerParts,
  container: Container,
  signal?: AbortSignal,
): Promise<void> {
  const { id, facts } = container;
  const { state } = container;
  if (state === ContainerState.CONTAINER_RUNNING || state === ContainerState.CONTAINER_UNKNOWN) {
    try {
      await stopContainer(parts, container, { graceMs: 0, ...(signal === undefined ? {} : { signal }) });
    } catch (error) {
      throw wrapFailure(error, `failed to forcibly stop container ${quote(id)}`);
    }
  }
  beginRemoval(container);
  try {
    await container.io?.close();
    container.io = undefined;
    // The end of what has run is seen with its task deleted. Of a start that failed, or was cut short with a former process of ours, nobody knows.
    if (container.status.startedAtNs === 0n) {
      await removeTask(parts, id);
    }
    // Together, so that one commit has both.
    await together([removeRoot(parts.peers, { key: id, snapshotter: facts.snapshotter }), deleteRecord(parts, id)]);
    await removeStatus(facts.directory);
    await together(
      [facts.directory, facts.stateDirectory].map(async (path) => {
        await unmountRecursive(path, { detach: true });
        await rm(path, { recursive: true, force: true });
      }),
    );
  } catch (error) {
    container.mark(() => ({ removing: false }));
    throw wrapFailure(error, `failed to delete containerd container ${quote(id)}`);
  }
  await parts.observers.removed(container);
  parts.containers.delete(id);
  parts.names.release(id);
  parts.selinux.release(container.metadata.processLabel);
  parts.events.publish(id, container.metadata.podId, ContainerEventType.CONTAINER_DELETED_EVENT);
}

function beginRemoval(container: Container): void {
  container.mark(({ starting, removing }) => {
    const refuse = (reason: string): FlotillaError =>
      new FlotillaError(
        ErrorKind.Unknown,
        `failed to set removing state for container ${quote(container.id)}: ${reason}`,
      );
    if (container.state === ContainerState.CONTAINER_RUNNING) {
      throw refuse("container is still running, to stop first");
    }
    if (container.state === ContainerState.CONTAINER_UNKNOWN) {
      throw refuse("container state is unknown, to stop first");
    }
    if (starting) {
      throw refuse("container is in starting state, can't be removed");
    }
    if (removing) {
      throw refuse("container is already in removing state");
    }
    return { removing: true };
  });
}
