import { chmod, mkdir } from "node:fs/promises";
import { ErrorKind, failure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";

/**
 * Makes the directories that the whole fleet stands on, with containerd's modes, and points temporary files to the configured place.
 *
 * @throws {@link FlotillaError} `invalid_argument` when root or state are missing or the same.
 * @source containerd v2.3.4 cmd/containerd/server/server.go `CreateTopLevelDirectories`
 */
export async function createDirectories(config: FleetConfig): Promise<void> {
  if (config.root === config.state) {
    throw failure(ErrorKind.InvalidArgument, "root and state must be different paths");
  }
  await mkdir(config.root, { recursive: true, mode: 0o700 });
  await chmod(config.root, 0o700);
  await mkdir(config.state, { recursive: true, mode: 0o711 });
  if (config.temp !== "") {
    await mkdir(config.temp, { recursive: true, mode: 0o700 });
    await chmod(config.temp, 0o700);
    process.env["TMPDIR"] = config.temp;
  }
}
