import { open, rename, rm } from "node:fs/promises";
import { syncDirectory } from "#base/durable-file.ts";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { ProgramFailure, runProgram } from "#linux/program.ts";

/** How long turning a directory into an image may take. */
const convertMsMax = 3_600_000;

/**
 * Turns a directory into an EROFS image, which is there whole or not at all.
 *
 * Whiteouts and opaque directories of overlayfs go into it as they are.
 *
 * @throws {@link FlotillaError} `unknown` with what mkfs.erofs says.
 * @source containerd v2.3.4 internal/erofsutils/mount.go `ConvertErofs`
 */
export async function makeLayer(directory: string, layer: string): Promise<void> {
  const half = `${layer}.new`;
  await rm(half, { force: true });
  try {
    const environment = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
    const args = ["--quiet", "-Enoinline_data", half, directory];
    await runProgram({ path: "mkfs.erofs", args, environment, timeoutMs: convertMsMax });
  } catch (error) {
    await rm(half, { force: true });
    const printed = error instanceof ProgramFailure ? error.output.stderr.toString().trim() : "";
    throw new FlotillaError(ErrorKind.Unknown, `erofs apply failed: ${printed}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
  await using file = await open(half, "r");
  await file.sync();
  await rename(half, layer);
  await syncDirectory(layer.slice(0, layer.lastIndexOf("/")));
}
