import { ErrorKind, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { LinuxContainerResources } from "#gen/runtime/v1/api_pb.ts";
import { criCall } from "../peers.ts";
import type { Pod } from "../store/pod.ts";
import { encodeUpdatedResources, updatedResourcesExtension } from "../store/pod-record.ts";
import type { PodParts } from "./pod-parts.ts";

/**
 * Takes in the limits of a pod, which the kubelet has set on its cgroup already, and tells who wants to know.
 *
 * @throws {@link FlotillaError} in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/sandbox_update_resources.go
 */
export async function updatePod(
  { peers, observers, log }: PodParts,
  pod: Pod,
  change: {
    readonly overhead: LinuxContainerResources | undefined;
    readonly resources: LinuxContainerResources | undefined;
  },
): Promise<void> {
  const { id, sandboxer } = pod;
  await observers.updatePod(pod, change).catch((error: unknown) => {
    throw wrapFailure(error, "NRI sandbox update failed");
  });
  const extensions = { [updatedResourcesExtension]: encodeUpdatedResources(change) };
  const fields = [`extensions.${updatedResourcesExtension}`];
  const { sandbox } = await peers.sandboxes
    .update({ sandbox: { sandboxId: id, extensions }, fields }, criCall())
    .catch((error: unknown) => {
      throw wrapFailure(error, `failed to update sandbox ${id} in core store`);
    });
  pod.updatedResources = change;
  if (sandbox !== undefined) {
    try {
      await peers.controller.update({ sandboxId: id, sandboxer, sandbox, fields: ["extensions"] }, criCall());
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotImplemented)) {
        throw wrapFailure(error, `failed to update sandbox controller of ${quote(id)}`);
      }
    }
  }
  await observers.postUpdatePod(pod).catch((error: unknown) => {
    log.error({ pod: id, err: error }, "NRI post-update notification failed");
  });
}
