import { access, constants, stat } from "node:fs/promises";
import { basename, delimiter, isAbsolute, join, resolve } from "node:path";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { goPathError } from "./bundles.ts";

/**
 * Finds the binary of a runtime: an absolute path as it is, a name such as `io.containerd.runc.v2` as
 * `containerd-shim-runc-v2` in the search path or beside the daemon.
 *
 * Unlike containerd it does not look into the current directory, which is nobody's to put programs in.
 *
 * @throws {@link FlotillaError} `unknown` with containerd's text.
 * @source containerd v2.3.4 core/runtime/v2/shim_manager.go `resolveRuntimePath`, pkg/shim/util.go `BinaryName`
 */
export async function resolveRuntimeBinary(
  runtime: string,
  search: { readonly path: string; readonly besides: string },
): Promise<string> {
  if (runtime === "") {
    throw new FlotillaError(ErrorKind.Unknown, "no runtime name");
  }
  if (isAbsolute(runtime)) {
    await stat(runtime).catch((error: unknown) => {
      throw wrapFailure(goPathError(error, "stat", runtime), "invalid custom binary path");
    });
    return runtime;
  }
  const parts = runtime.split(".");
  const [kind, version] = parts.slice(-2);
  if (runtime.includes("/") || parts.length < 2 || parts[0] === "") {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `invalid runtime name ${runtime}, correct runtime name should be either format like \`io.containerd.runc.v2\` or a full path to the binary`,
    );
  }
  const name = `containerd-shim-${kind}-${version}`;
  const directories = [...search.path.split(delimiter).filter((directory) => directory !== ""), search.besides];
  for (const directory of directories) {
    const candidate = resolve(join(directory, name));
    if (await isProgram(candidate)) {
      return candidate;
    }
  }
  throw new FlotillaError(
    ErrorKind.Unknown,
    `runtime ${quote(runtime)} binary not installed ${quote(name)}: file does not exist`,
  );
}

/** Tells whether a binary is one of the oldest shims, which take nothing but options on standard input. */
export function isFirstGenerationShim(path: string): boolean {
  return /shim-runc-v1|shim-runhcs-v1/.test(basename(path));
}

/** Tells whether a binary is containerd's own shim for runc. */
export function isRuncShim(path: string): boolean {
  return /^containerd-shim-runc-v\d+$/.test(basename(path));
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
