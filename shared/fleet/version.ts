import { readFileSync } from "node:fs";
import { systemErrorCode } from "#base/errors.ts";

const repository = new URL("../../", import.meta.url);

/** The release of containerd whose behaviour the fleet has; clients switch features on by it. */
const containerdVersion = "2.3.4";

/**
 * The version that Version and Introspection answer, in containerd's form with our own release as build metadata:
 * `v2.3.4+flotilla.0.1.0`. Clients parse it as a semantic version, which ignores what follows the plus.
 */
export function daemonVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL("package.json", repository), "utf8")) as { version: string };
  return `v${containerdVersion}+flotilla.${version}`;
}

/** The commit that runs, or "" when the program does not run from a git checkout. */
export function daemonRevision(): string {
  const head = readGitFile("HEAD");
  const reference = /^ref: (.+)$/.exec(head)?.[1];
  return reference === undefined ? head : readGitFile(reference);
}

function readGitFile(path: string): string {
  try {
    return readFileSync(new URL(`.git/${path}`, repository), "utf8").trim();
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(systemErrorCode(error) ?? "")) {
      return "";
    }
    throw error;
  }
}
