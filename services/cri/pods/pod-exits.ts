import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { nanosecondsOf, wallClock } from "#base/times.ts";
import { ContainerEventType } from "#gen/runtime/v1/api_pb.ts";
import { criCall } from "../peers.ts";
import type { Pod } from "../store/pod.ts";
import type { PodParts } from "./pod-parts.ts";

/** Exit status of a sandbox of which nobody knows how it ended. @source containerd v2.3.4 internal/cri/server/helpers.go `unknownExitCode` */
const unknownExitStatus = 255;

const retryMsMin = 100;
const retryMsMax = 5_000;

/** Waits, in the background, for the end of a sandbox, and notes it. Waits again when the process that runs sandboxes is away. */
export function watchPod(parts: PodParts, pod: Pod): void {
  void waitForEnd(parts, pod).then((exit) => {
    if (exit !== undefined) {
      noteEnd(parts, pod, exit);
    }
  });
}

/** Notes that a sandbox has ended. May be repeated. */
export function noteEnd({ publish }: Pick<PodParts, "publish">, pod: Pod, exit: NonNullable<Pod["exit"]>): void {
  if (pod.ended.signal.aborted) {
    return;
  }
  pod.state = "notready";
  pod.pid = 0;
  pod.exit = exit;
  pod.ended.abort();
  publish(pod, ContainerEventType.CONTAINER_STOPPED_EVENT);
}

async function waitForEnd({ peers, log, stopping }: PodParts, pod: Pod): Promise<Pod["exit"]> {
  const { id, sandboxer } = pod;
  const signal = AbortSignal.any([stopping, pod.ended.signal]);
  for (let waitMs = retryMsMin; !signal.aborted; waitMs = Math.min(2 * waitMs, retryMsMax)) {
    const startedMs = performance.now();
    try {
      const { exitStatus, exitedAt } = await peers.controller.wait(
        { sandboxId: id, sandboxer },
        criCall({ signal, timeoutMs: Number.POSITIVE_INFINITY }),
      );
      const atNs = exitedAt === undefined ? wallClock() : nanosecondsOf(exitedAt);
      return { status: exitStatus, atNs };
    } catch (error) {
      if (signal.aborted) {
        return undefined;
      }
      if (!isFailure(error, ErrorKind.Unavailable, ErrorKind.DeadlineExceeded)) {
        log.warn({ pod: id, err: error }, "nobody knows how a sandbox ended");
        return { status: unknownExitStatus, atNs: wallClock() };
      }
      // Whoever has waited for long starts over.
      waitMs = performance.now() - startedMs > retryMsMax ? retryMsMin : waitMs;
      await delay(waitMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
  return undefined;
}
