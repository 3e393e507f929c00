import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { CriSettings } from "../config.ts";
import { findCriu } from "./criu.ts";

/**
 * Answers that containers can't be checkpointed, and why: CRIU is switched off, is not there or is too old, as containerd says; or it is there, and
 * archives of checkpoints are what this process does not write.
 *
 * @source containerd v2.3.4 internal/cri/server/container_checkpoint_linux.go `CheckpointContainer`
 */
export function checkpointCall({
  enableCriu,
}: Pick<CriSettings, "enableCriu">): Pick<Handlers<typeof RuntimeService>, "checkpointContainer"> {
  return {
    checkpointContainer: async ({ containerId }) => {
      const context = `failed to checkpoint container ${quote(containerId)}`;
      try {
        await findCriu({ isEnabled: enableCriu, path: process.env["PATH"] ?? "" });
      } catch (error) {
        throw wrapFailure(error, context);
      }
      throw failure(ErrorKind.NotImplemented, `${context}: archives of checkpoints`);
    },
  };
}
