import { wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { ContainerParts } from "../containers/container-parts.ts";
import type { CriMetrics } from "../metrics/cri-metrics.ts";
import { checkpointContainer } from "./checkpoint-container.ts";
import { findCriu } from "./criu.ts";

/**
 * Writes checkpoints of containers, where CRIU is there and not switched off; elsewhere it says in containerd's words why not.
 *
 * @source containerd v2.3.4 internal/cri/server/container_checkpoint_linux.go `CheckpointContainer`
 */
export function checkpointCall(
  parts: ContainerParts,
  metrics: CriMetrics,
): Pick<Handlers<typeof RuntimeService>, "checkpointContainer"> {
  return {
    checkpointContainer: async ({ containerId, location }, { signal }) => {
      try {
        await findCriu({ isEnabled: parts.settings.enableCriu, path: process.env["PATH"] ?? "" });
      } catch (error) {
        throw wrapFailure(error, `failed to checkpoint container ${quote(containerId)}`);
      }
      const startedMs = performance.now();
      const runtime = await checkpointContainer(parts, { id: containerId, location, signal });
      metrics.took("container_checkpoint", startedMs, runtime);
      return {};
    },
  };
}
