import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { join } from "node:path";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";

/** The oldest version of CRIU that knows pods: 3.16. @source checkpoint-restore/go-criu v7 utils/criu.go `PodCriuVersion` */
const versionMin = 31_600;
/** How long the program may take to say its version, in ms. */
const versionMsMax = 10_000;

/**
 * Finds out whether containers can be checkpointed.
 *
 * @param options.isEnabled - What `enable_criu` says.
 * @param options.path - Directories of programs, as in PATH.
 * @returns Where CRIU is.
 * @throws {@link FlotillaError} `unknown` when it is switched off, is not there, or is too old.
 * @source containerd v2.3.4 internal/cri/server/container_checkpoint_linux.go `doCheckCriu`
 */
export async function findCriu({
  isEnabled,
  path,
}: {
  readonly isEnabled: boolean;
  readonly path: string;
}): Promise<string> {
  if (!isEnabled) {
    throw new FlotillaError(ErrorKind.Unknown, "criu support is disabled by configuration");
  }
  const program = await findProgram(path);
  if (program === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, "criu binary not found in shim path or system PATH");
  }
  const version = await versionOf(program);
  if (version < versionMin) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `checkpoint/restore requires at least CRIU ${versionMin}, current version is ${version}`,
    );
  }
  return program;
}

async function findProgram(path: string): Promise<string | undefined> {
  for (const directory of path.split(":").filter((one) => one.startsWith("/"))) {
    const program = join(directory, "criu");
    const isProgram = await access(program, constants.X_OK)
      .then(() => stat(program))
      .then(
        (entry) => entry.isFile(),
        () => false,
      );
    if (isProgram) {
      return program;
    }
  }
  return undefined;
}

/** Such as 31701 for 3.17.1. */
async function versionOf(program: string): Promise<number> {
  try {
    const { execa } = await import("execa");
    const { stdout } = await execa(program, ["--version"], { timeout: versionMsMax, maxBuffer: 10_000 });
    const [, major, minor, patch = "0"] = /Version:\s*(\d+)\.(\d+)(?:\.(\d+))?/.exec(stdout) ?? [];
    if (major === undefined || minor === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, "it says no version");
    }
    return Number(major) * 10_000 + Number(minor) * 100 + Number(patch);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to retrieve criu version: ${errorMessage(error)}`);
  }
}
