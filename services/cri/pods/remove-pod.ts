import { ErrorKind, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { together } from "#base/together.ts";
import { ContainerEventType } from "#gen/runtime/v1/api_pb.ts";
import { criCall } from "../peers.ts";
import type { Pod } from "../store/pod.ts";
import { removePauseContainer } from "./pause-container.ts";
import type { PodParts } from "./pod-parts.ts";
import { removePodFiles } from "./sandbox-files.ts";
import { stopPod } from "./stop-pod.ts";

/**
 * Removes a pod with all of its containers. It is stopped first. Goes on where it failed when it is repeated; the record of the sandbox
 * goes last, so that a process that is killed on the way finds the pod again.
 *
 * @throws {@link FlotillaError} in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/sandbox_remove.go `RemovePodSandbox`
 */
export async function removePod(parts: PodParts, pod: Pod): Promise<void> {
  const { peers, pods, names, containers, observers, publish, selinux, log } = parts;
  const { id, sandboxer } = pod;
  await stopPod(parts, pod).catch((error: unknown) => {
    throw wrapFailure(error, `failed to forcibly stop sandbox ${quote(id)}`);
  });
  await containers.removeAll(id);
  try {
    await ignoreAbsence(peers.controller.shutdown({ sandboxId: id, sandboxer }, criCall()));
    await together([
      removePodFiles(pod),
      sandboxer === "podsandbox" ? removePauseContainer(parts, pod) : Promise.resolve(),
    ]);
  } catch (error) {
    throw wrapFailure(error, `failed to delete sandbox ${quote(id)}`);
  }
  publish(pod, ContainerEventType.CONTAINER_DELETED_EVENT);
  await observers.removePod(pod).catch((error: unknown) => {
    log.error({ pod: id, err: error }, "NRI pod removal notification failed");
  });
  await ignoreAbsence(peers.leases.delete({ id }, criCall())).catch((error: unknown) => {
    throw wrapFailure(error, `failed to delete lease for sandbox ${quote(id)}`);
  });
  await ignoreAbsence(peers.sandboxes.delete({ sandboxId: id }, criCall())).catch((error: unknown) => {
    throw wrapFailure(error, "failed to remove sandbox metadata from store");
  });
  pods.delete(id);
  names.release(id);
  selinux.release(pod.processLabel);
}

async function ignoreAbsence(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!isFailure(error, ErrorKind.NotFound)) {
      throw error;
    }
  }
}
