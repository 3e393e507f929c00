import { ErrorKind, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type LinuxContainerResources, RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { Container } from "../store/container.ts";
import type { ContainerParts } from "./container-parts.ts";
import { createContainer } from "./create.ts";
import { listedContainers, selectContainers } from "./list.ts";
import { removeContainer } from "./remove.ts";
import { startContainer, wasStarted } from "./start.ts";
import { containerStatus } from "./status.ts";
import { stopContainer } from "./stop.ts";
import { updateResources } from "./update.ts";
import { verboseInfo } from "./verbose-status.ts";

/** How many containers one piece of a list has. */
const pieceLength = 100;

type ContainerCalls = Pick<
  Handlers<typeof RuntimeService>,
  | "createContainer"
  | "startContainer"
  | "stopContainer"
  | "removeContainer"
  | "listContainers"
  | "streamContainers"
  | "containerStatus"
  | "updateContainerResources"
>;

/** What the kubelet does with containers. */
export function containerCalls(parts: ContainerParts): ContainerCalls {
  const { changes, containers } = parts;
  const { method } = RuntimeService;
  const ofContainer = ({ containerId }: { readonly containerId: string }): string => containerId;
  return {
    createContainer: changes.once(method.createContainer, undefined, async (request, { signal }, attempt) => {
      // The client does not know the one that a former process was making for this call.
      const made = attempt.noted === undefined ? undefined : containers.find(attempt.noted as string);
      if (made !== undefined) {
        await removeContainer(parts, made, signal);
      }
      return { containerId: await createContainer(parts, request, { signal, onNamed: attempt.note }) };
    }),
    startContainer: changes.once(method.startContainer, ofContainer, async ({ containerId }, { signal }, attempt) => {
      const begun = attempt.noted === undefined ? undefined : findContainer(parts, containerId);
      if (begun === undefined || !wasStarted(begun)) {
        await startContainer(parts, containerId, { signal, onBegun: () => attempt.note("begun") });
      }
      return {};
    }),
    stopContainer: changes.once(method.stopContainer, undefined, async ({ containerId, timeout }, call, attempt) => {
      const container = findContainer(parts, containerId);
      if (container !== undefined) {
        // Who has been told to end has had time since, and may take a second signal for another one.
        container.isStopSignalled ||= attempt.noted !== undefined;
        const graceMs = Number(timeout) * 1000 - (attempt.noted === undefined ? 0 : (call.id?.repeatedAfterMs ?? 0));
        const onSignal = (): void => attempt.note("signalled");
        await stopContainer(parts, container, { graceMs, signal: call.signal, onSignal });
      }
      return {};
    }),
    removeContainer: async ({ containerId }, { signal }) => {
      const container = findContainer(parts, containerId);
      if (container !== undefined) {
        await removeContainer(parts, container, signal);
      }
      return {};
    },
    listContainers: ({ filter }) => listedContainers.list(selectContainers(parts, filter)),
    streamContainers: async function* ({ filter }) {
      yield* listedContainers.pieces(selectContainers(parts, filter), pieceLength);
    },
    containerStatus: async ({ containerId, verbose }) => {
      const container = getContainer(parts, containerId);
      const status = containerStatus(container, parts.images.store);
      return verbose ? { status, info: await verboseInfo(parts.peers, container) } : { status };
    },
    updateContainerResources: async ({ containerId, linux }) => {
      let container: Container;
      try {
        container = parts.containers.get(containerId);
      } catch (error) {
        throw wrapFailure(error, "failed to find container");
      }
      await parts.observers.during(() => updateObserved(parts, container, linux));
      return {};
    },
  };
}

/** @source containerd v2.3.4 internal/cri/server/container_update_resources.go `UpdateContainerResources` */
async function updateObserved(
  parts: ContainerParts,
  container: Container,
  wishes: LinuxContainerResources | undefined,
): Promise<void> {
  let wanted = wishes;
  try {
    wanted = wishes && (await parts.observers.update(container, wishes));
  } catch (error) {
    throw wrapFailure(error, "NRI container update failed");
  }
  await updateResources(parts, container, wanted);
  await parts.observers.updated(container);
}

/** A container by its id, which may be cut short. @throws {@link FlotillaError} `not_found`, in containerd's words. */
function getContainer({ containers }: ContainerParts, id: string): Container {
  try {
    return containers.get(id);
  } catch (error) {
    throw wrapFailure(error, `an error occurred when try to find container ${quote(id)}`);
  }
}

/** The same for calls that are to succeed where there is no such container. */
function findContainer(parts: ContainerParts, id: string): Container | undefined {
  try {
    return getContainer(parts, id);
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return undefined;
    }
    throw error;
  }
}
