import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, errorMessage, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { wallClock } from "#base/times.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import type { Mount } from "#gen/containerd/types/mount_pb.ts";
import { ContainerEventType, ContainerState } from "#gen/runtime/v1/api_pb.ts";
import { criCall } from "../peers.ts";
import type { Container } from "../store/container.ts";
import type { Pod } from "../store/pod.ts";
import type { ContainerParts } from "./container-parts.ts";
import { removeTask } from "./remove-task.ts";
import { enumName } from "./spec/enum-name.ts";
import { hasOwnUsers, userMappings } from "./spec/namespaces.ts";
import { targetPid } from "./target.ts";

/** How long creating and starting a task may take, in milliseconds. */
const startMsMax = 4 * 60_000;
/** @source containerd v2.3.4 internal/cri/server/helpers.go `errorStartExitCode`, `errorStartReason` */
const startFailure = { exitCode: 128, reason: "StartError" } as const;

/**
 * Starts a container. One that can't be started has ended.
 *
 * @param options.onBegun - Told when nothing is against it, before anything is done.
 * @throws {@link FlotillaError} in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/container_start.go `StartContainer`
 */
export async function startContainer(
  parts: ContainerParts,
  id: string,
  { signal, onBegun }: { readonly signal: AbortSignal; readonly onBegun: () => void },
): Promise<void> {
  let container: Container;
  try {
    container = parts.containers.get(id);
  } catch (error) {
    throw wrapFailure(error, `an error occurred when try to find container ${quote(id)}`);
  }
  beginStart(container);
  try {
    onBegun();
    await parts.observers.during(() => start(parts, container, signal));
  } catch (error) {
    await noteFailure(parts, container, error);
    await parts.observers.stopped(container);
    throw error;
  } finally {
    container.mark(() => ({ starting: false }));
  }
  parts.events.publish(container.id, container.metadata.podId, ContainerEventType.CONTAINER_STARTED_EVENT);
}

/** Whether a container has been started, whatever has become of it. */
export function wasStarted({ state, status }: Container): boolean {
  return (
    state === ContainerState.CONTAINER_RUNNING ||
    (state === ContainerState.CONTAINER_EXITED && status.reason !== startFailure.reason)
  );
}

function beginStart(container: Container): void {
  container.mark(({ starting, removing }) => {
    const refuse = (reason: string): FlotillaError =>
      new FlotillaError(
        ErrorKind.Unknown,
        `failed to set starting state for container ${quote(container.id)}: ${reason}`,
      );
    if (container.state !== ContainerState.CONTAINER_CREATED) {
      throw refuse(`container is in ${enumName(ContainerState, container.state)} state`);
    }
    if (removing) {
      throw refuse("container is in removing state, can't be started");
    }
    if (starting) {
      throw refuse("container is already in starting state");
    }
    return { starting: true };
  });
}

async function start(parts: ContainerParts, container: Container, signal: AbortSignal): Promise<void> {
  const { peers, settings, pods } = parts;
  const { id, metadata } = container;
  const pod = pods.find(metadata.podId);
  if (pod === undefined) {
    throw failure(ErrorKind.NotFound, `sandbox ${quote(metadata.podId)} not found`);
  }
  if (pod.state !== "ready") {
    throw new FlotillaError(ErrorKind.Unknown, `sandbox container ${quote(pod.id)} is not running`);
  }
  targetPid(parts, pod, metadata.config);
  const { io } = container;
  if (io === undefined) {
    throw failure(ErrorKind.FailedPrecondition, `container ${quote(id)} has no pipes`);
  }
  if (metadata.logPath !== "") {
    await mkdir(dirname(metadata.logPath), { recursive: true, mode: 0o755 });
  }
  io.startLog(metadata.logPath, settings.containerLogLineBytesMax);
  const rootfs = await rootMounts(parts, container, signal);
  const { stdin, stdout, stderr } = io.paths;
  const call = criCall({ signal, timeoutMs: startMsMax });
  try {
    const options = ownerOptions(container);
    await peers.tasks.create(
      {
        containerId: id,
        rootfs: [...rootfs],
        stdin,
        stdout,
        stderr,
        terminal: metadata.config.tty,
        runtimePath: pod.runtime?.path ?? "",
        ...(options === undefined ? {} : { options }),
        ...endpointOf(pod),
      },
      call,
    );
  } catch (error) {
    throw wrapFailure(error, "failed to create containerd task");
  }
  try {
    await parts.observers.start(container).catch((error: unknown) => {
      throw wrapFailure(error, "NRI container start failed");
    });
    // Noted before: what ends at once must not have ended before it was started.
    const startedAtNs = wallClock();
    const { pid } = await peers.tasks.start({ containerId: id }, call).catch((error: unknown) => {
      throw wrapFailure(error, `failed to start containerd task ${quote(id)}`);
    });
    await container.update((status) => ({ ...status, pid, startedAtNs }));
  } catch (error) {
    await removeTask(parts, id).catch((failed: unknown) => {
      parts.log.warn({ container: id, err: failed }, "a task that was not started is not removed");
    });
    throw error;
  }
  void parts.exits.watch(container);
  await parts.observers.started(container);
}

async function rootMounts(
  { peers }: ContainerParts,
  { id, facts }: Container,
  signal: AbortSignal,
): Promise<readonly Mount[]> {
  return (
    facts.rootMounts ??
    (await peers.snapshots.mounts({ snapshotter: facts.snapshotter, key: id }, criCall({ signal }))).mounts
  );
}

function endpointOf({ endpoint }: Pod): { readonly taskApiAddress?: string; readonly taskApiVersion?: number } {
  return endpoint.address === "" ? {} : { taskApiAddress: endpoint.address, taskApiVersion: endpoint.version };
}

/**
 * Options by which the pipes of a container belong to its user, where its users are not the machine's: it may open them again by /proc.
 *
 * @source containerd v2.3.4 internal/cri/server/container_start_linux.go `updateContainerIOOwner`
 */
function ownerOptions({ facts, metadata }: Container): Any | undefined {
  const namespaces = metadata.config.linux?.securityContext?.namespaceOptions;
  const { options, name } = facts.runtime;
  if (!hasOwnUsers(namespaces) || name !== "io.containerd.runc.v2") {
    return undefined;
  }
  const { uids, gids } = userMappings(namespaces?.usernsOptions);
  const message = options === undefined ? create(OptionsSchema) : fromBinary(OptionsSchema, options.value);
  message.ioUid = (uids[0]?.hostID ?? 0) + (facts.user?.uid ?? 0) - (uids[0]?.containerID ?? 0);
  message.ioGid = (gids[0]?.hostID ?? 0) + (facts.user?.gid ?? 0) - (gids[0]?.containerID ?? 0);
  return create(AnySchema, { typeUrl: OptionsSchema.typeName, value: toBinary(OptionsSchema, message) });
}

async function noteFailure({ log }: ContainerParts, container: Container, error: unknown): Promise<void> {
  await container.io?.close();
  container.io = undefined;
  try {
    await container.update((status) => ({
      ...status,
      ...startFailure,
      pid: 0,
      finishedAtNs: wallClock(),
      message: errorMessage(error),
    }));
    container.end();
  } catch (failed) {
    log.error({ container: container.id, err: failed }, "that a container could not be started is not recorded");
  }
}
