import { setTimeout as delay } from "node:timers/promises";
import { aborted } from "#base/aborted.ts";
import { ErrorKind, failure, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { ContainerState, Signal } from "#gen/runtime/v1/api_pb.ts";
import { criCall } from "../peers.ts";
import type { Container } from "../store/container.ts";
import type { ContainerParts } from "./container-parts.ts";
import { signalName, signalNumber } from "./spec/stop-signal.ts";

/** Ends what does not want to. */
const killSignal = 9;
/** How long a container may take to end once it is killed, in milliseconds. */
const killedMsMax = 2 * 60_000;

/**
 * Stops a container: its own signal, time to act on it, and an end by force. One that does not run is left as it is.
 *
 * @param options.graceMs - Time to act on the signal, in milliseconds; 0 for an end by force at once.
 * @param options.onSignal - Told before its own signal is sent.
 * @throws {@link FlotillaError} in containerd's words; `deadline_exceeded` when even force does not end it.
 * @source containerd v2.3.4 internal/cri/server/container_stop.go `stopContainer`
 */
export async function stopContainer(
  parts: ContainerParts,
  container: Container,
  {
    graceMs,
    signal,
    onSignal,
  }: { readonly graceMs: number; readonly signal?: AbortSignal; readonly onSignal?: () => void },
): Promise<void> {
  const { state } = container;
  if (state === ContainerState.CONTAINER_UNKNOWN) {
    await settleUnknown(parts, container);
  } else if (state !== ContainerState.CONTAINER_RUNNING) {
    return;
  }
  if (container.ended.aborted) {
    return;
  }
  if (graceMs > 0) {
    const number = signalNumber(stopSignalOf(parts, container));
    if (!container.isStopSignalled) {
      container.isStopSignalled = true;
      onSignal?.();
      await kill(parts, container, number);
    }
    if (await hasEnded(container, graceMs, signal)) {
      return;
    }
  }
  await kill(parts, container, killSignal);
  if (!(await hasEnded(container, killedMsMax, signal))) {
    throw failure(
      ErrorKind.DeadlineExceeded,
      `an error occurs during waiting for container ${quote(container.id)} to be killed: wait container ${quote(container.id)}`,
    );
  }
}

/** Its own signal, else the one that it was created with, else the image's, else SIGTERM. */
function stopSignalOf({ images }: ContainerParts, { metadata }: Container): string {
  if (metadata.config.stopSignal !== Signal.RUNTIME_DEFAULT) {
    return signalName(metadata.config.stopSignal);
  }
  if (metadata.stopSignal !== "") {
    return metadata.stopSignal;
  }
  try {
    return images.store.get(metadata.imageRef).config.stopSignal || "SIGTERM";
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return "SIGTERM";
    }
    throw error;
  }
}

async function kill({ peers }: ContainerParts, { id }: Container, signal: number): Promise<void> {
  try {
    await peers.tasks.kill({ containerId: id, signal }, criCall());
  } catch (error) {
    if (!isFailure(error, ErrorKind.NotFound)) {
      throw wrapFailure(error, `failed to ${signal === killSignal ? "kill" : "stop"} container ${quote(id)}`);
    }
  }
}

/** Waits for the end of a container. @throws The reason of the signal. */
async function hasEnded({ ended }: Container, waitMs: number, signal: AbortSignal | undefined): Promise<boolean> {
  const given = new AbortController();
  const timer = delay(waitMs, undefined, { signal: given.signal, ref: false }).catch(() => undefined);
  try {
    await Promise.race([aborted(ended), timer, ...(signal === undefined ? [] : [aborted(signal)])]);
  } finally {
    given.abort();
  }
  if (!ended.aborted) {
    signal?.throwIfAborted();
  }
  return ended.aborted;
}

/** Finds out about a container of which nothing is known: what runs of it is watched, and what does not has ended. */
async function settleUnknown({ peers, exits }: ContainerParts, container: Container): Promise<void> {
  try {
    await peers.tasks.get({ containerId: container.id }, criCall());
  } catch (error) {
    if (!isFailure(error, ErrorKind.NotFound)) {
      throw wrapFailure(error, `failed to get task for container ${quote(container.id)}`);
    }
    await exits.endUnknown(container);
    return;
  }
  void exits.watch(container);
}
