import { readdir } from "node:fs/promises";
import { dirname, join, normalize, resolve } from "node:path";
import { systemErrorCode } from "#base/errors.ts";

/**
 * Finds the files that a configuration file imports. A relative path counts from the directory of that file. A path with `*` stands for
 * the files that match it, sorted, and there may be none; any other path is given back whether the file exists or not.
 *
 * @param parent - Path of the file that imports.
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `resolveImports`
 */
export async function resolveImports(parent: string, imports: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const written of imports) {
    const path = resolve(dirname(parent), normalize(written));
    files.push(...(path.includes("*") ? await expandPattern(path) : [path]));
  }
  return files;
}

/** Expands the pattern one directory after the other. Unlike a shell's, the `*` of Go matches a leading dot. */
async function expandPattern(pattern: string): Promise<string[]> {
  let found = ["/"];
  for (const segment of pattern.split("/").filter((part) => part !== "")) {
    const matcher = segment.includes("*") ? segmentMatcher(segment) : undefined;
    const next: string[] = [];
    for (const directory of found) {
      for (const name of await listNames(directory)) {
        if (matcher === undefined ? name === segment : matcher.test(name)) {
          next.push(join(directory, name));
        }
      }
    }
    found = next;
  }
  return found;
}

/** @source Go path/filepath/match.go `Match` (but for escapes and classes of characters) */
function segmentMatcher(segment: string): RegExp {
  const body = segment
    .replaceAll(/[\\^$.|+()[\]{}]/g, String.raw`\$&`)
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${body}$`, "su");
}

/** The sorted names in a directory; none where there is no such directory or it can't be read, as in Go's Glob. */
async function listNames(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES", "ELOOP"].includes(systemErrorCode(error) ?? "")) {
      return [];
    }
    throw error;
  }
}
