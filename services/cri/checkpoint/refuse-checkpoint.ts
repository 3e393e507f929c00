import { isAbsolute } from "node:path";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { exists } from "#base/exists.ts";
import type { CriSettings } from "../config.ts";

/**
 * Refuses to make a container of a file, which in place of an image means an archive of a checkpoint.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words, unless the settings ask for it; `not_implemented` where they do.
 * @source containerd v2.3.4 internal/cri/server/container_create.go `CreateContainer`, container_checkpoint_linux.go `CRImportCheckpoint`
 */
export async function refuseCheckpoint(
  { enableExperimentalRestoreViaCreate }: Pick<CriSettings, "enableExperimentalRestoreViaCreate">,
  image: string,
): Promise<void> {
  if (!isAbsolute(image) || !(await exists(image))) {
    return;
  }
  throw enableExperimentalRestoreViaCreate
    ? failure(ErrorKind.NotImplemented, `checkpoint restore via CreateContainer of ${image}`)
    : new FlotillaError(ErrorKind.Unknown, "checkpoint restore via CreateContainer is disabled by configuration");
}
