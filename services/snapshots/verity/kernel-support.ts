import { existsSync } from "node:fs";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

/**
 * Makes sure that this kernel checks block devices.
 *
 * @throws {@link FlotillaError} `unknown`, as containerd says it.
 * @source containerd v2.3.4 internal/dmverity/dmverity_linux.go `IsSupported`
 */
export function requireDeviceVerity(): void {
  if (!existsSync("/sys/module/dm_verity")) {
    throw new FlotillaError(ErrorKind.Unknown, "dm_verity module not loaded or built-in");
  }
}
