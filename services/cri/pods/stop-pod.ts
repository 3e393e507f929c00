import { ErrorKind, errorMessage, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { wallClock } from "#base/times.ts";
import { isNamespace, releaseNamespace } from "#linux/network-namespace.ts";
import { criCall } from "../peers.ts";
import type { Pod } from "../store/pod.ts";
import { noteEnd } from "./pod-exits.ts";
import type { PodParts } from "./pod-parts.ts";
import { podFiles, unmountPodFiles } from "./sandbox-files.ts";

/** How long a sandbox may take to end once it has been killed. */
const endMsMax = 120_000;

/** Exit status of a sandbox that was killed. @source signal(7): 128 and SIGKILL */
const killedStatus = 137;

/**
 * Stops a pod: its containers, its sandbox, its network. May be repeated, and goes on where it failed.
 *
 * @throws {@link FlotillaError} in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/sandbox_stop.go `stopPodSandbox`
 */
export async function stopPod(parts: PodParts, pod: Pod): Promise<void> {
  const { peers, containers, observers, metrics, log } = parts;
  const { id, sandboxer } = pod;
  const startedMs = performance.now();
  await containers.stopAll(id);
  if (pod.state !== "notready") {
    try {
      await peers.controller.stop({ sandboxId: id, sandboxer }, criCall({ timeoutMs: endMsMax }));
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        throw wrapFailure(error, `failed to stop sandbox ${quote(id)}`);
      }
      log.warn({ pod: id }, "a sandbox that is to be stopped is not there");
    }
    // Who waits for it learns of it later; whoever asks from now on shall not see it ready.
    noteEnd(parts, pod, { status: killedStatus, atNs: wallClock() });
  }
  metrics.took("sandbox_runtime_stop", startedMs, pod.runtimeHandler);
  await unmountPodFiles(pod);
  await observers.stopPod(pod).catch((error: unknown) => {
    log.error({ pod: id, err: error }, "NRI sandbox stop notification failed");
  });
  await takeOffNetwork(parts, pod);
}

async function takeOffNetwork({ networks, metrics, log }: PodParts, pod: Pod): Promise<void> {
  const { id, netnsPath } = pod;
  if (netnsPath === "") {
    return;
  }
  const startedMs = performance.now();
  const attached = { ...pod, netnsPath: isNamespace(netnsPath) ? netnsPath : "" };
  try {
    await metrics.network("tear_down_pod", () => networks.tearDown(attached));
  } catch (error) {
    if (pod.network !== undefined) {
      throw wrapFailure(error, `failed to destroy network for sandbox ${quote(id)}`);
    }
    log.warn(
      { pod: id, err: error },
      `the network of a pod was never set up, and is not undone: ${errorMessage(error)}`,
    );
  }
  try {
    await releaseNamespace(netnsPath);
    await releaseNamespace(podFiles.userNamespace(pod));
  } catch (error) {
    throw wrapFailure(error, `failed to remove network namespace for sandbox ${quote(id)}`);
  }
  metrics.took("sandbox_delete_network", startedMs);
}
