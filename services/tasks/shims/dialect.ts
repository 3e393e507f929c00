import { statSync } from "node:fs";
import { runProgram } from "#linux/program.ts";
import { isFirstGenerationShim, isRuncShim } from "./binary.ts";
import type { StartDialect } from "./bootstrap.ts";

/** How long a binary may take to say its version. */
const versionTimeoutMs = 5_000;

/**
 * Finds out in which dialects a binary may be told to start, most likely first.
 *
 * Shims that are built from containerd's own package say its version. Others are tried in the way of containerd 2.3 first, which an
 * older one refuses before it does anything, and then in the way of its predecessors.
 *
 * Answers are kept for each binary until the file changes.
 */
export class StartDialects {
  readonly #known = new Map<string, { readonly stamp: string; readonly dialects: Promise<readonly StartDialect[]> }>();

  async find(path: string): Promise<readonly StartDialect[]> {
    const { mtimeNs, size, ino } = statSync(path, { bigint: true });
    const stamp = `${ino}-${size}-${mtimeNs}`;
    const known = this.#known.get(path);
    if (known?.stamp === stamp) {
      return known.dialects;
    }
    const dialects = askDialects(path);
    this.#known.set(path, { stamp, dialects });
    return dialects;
  }

  /** Remembers which of the dialects the binary took. */
  async settle(path: string, dialect: StartDialect): Promise<void> {
    const known = this.#known.get(path);
    if (known !== undefined && (await known.dialects).length > 1) {
      this.#known.set(path, { stamp: known.stamp, dialects: Promise.resolve([dialect]) });
    }
  }
}

async function askDialects(path: string): Promise<readonly StartDialect[]> {
  if (isFirstGenerationShim(path)) {
    return ["options"];
  }
  try {
    const { stdout } = await runProgram({
      path,
      args: ["-v"],
      environment: process.env,
      timeoutMs: versionTimeoutMs,
    });
    return dialectsOfVersion(path, stdout.toString("utf8"));
  } catch {
    return dialectsOfVersion(path, "");
  }
}

/**
 * The dialects of a shim by what it prints for `-v`. Only containerd's own shim for certain has containerd's version there.
 *
 * @source containerd v2.3.4 pkg/shim/shim.go `run` (the form), v1.6.20 runtime/v2/runc/manager/manager_linux.go `Start`
 *   (the oldest reader of options, which refuses everything else)
 */
export function dialectsOfVersion(path: string, printed: string): readonly StartDialect[] {
  const version = /^\s*Version:\s+v?(\d+)\.(\d+)[^\n]*\n\s*Revision:/m.exec(printed);
  if (version === null) {
    return ["bootstrap", "options"];
  }
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major < 2 || (major === 2 && minor < 3)) {
    return ["options"];
  }
  return isRuncShim(path) ? ["bootstrap"] : ["bootstrap", "options"];
}
