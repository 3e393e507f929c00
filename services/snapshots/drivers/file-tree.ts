import { lstatSync, readdirSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { ErrorKind, FlotillaError, systemErrorCode } from "#base/errors.ts";
import type { SnapshotUsage } from "./driver.ts";

/** Copying or deleting one tree takes no longer than this; a disk that needs more does not answer. */
const programMsMax = 30 * 60_000;
/** Paths given to one program; far below the 2 MiB that Linux lets through. */
const pathsPerCallMax = 500;
/** What a program may print; one that complains about more than that is ended. */
const outputBytesMax = 1024 * 1024;

/**
 * Copies what is in a directory, and the directory's own attributes, into an existing directory: owner, mode, times to the
 * nanosecond, extended attributes, hard links within the tree, devices, pipes, sockets, holes. Blocks are shared where the file
 * system can.
 *
 * GNU cp does the work. It takes about the time of `fs.cp`, which keeps neither owners, links, attributes nor devices, and
 * it does so in a process of its own.
 *
 * @throws {@link FlotillaError} with the program's words; the target is then incomplete.
 */
export async function copyTree(source: string, target: string): Promise<void> {
  await runProgram("cp", ["--archive", "--reflink=auto", "--no-target-directory", "--", source, target]);
}

/**
 * Deletes directory trees. Paths that are not there are passed over. Does not follow links and does not enter other mounts.
 *
 * @throws {@link FlotillaError} with the program's words, after having deleted all that can be deleted.
 */
export async function removeTrees(paths: readonly string[]): Promise<void> {
  for (let start = 0; start < paths.length; start += pathsPerCallMax) {
    const some = paths.slice(start, start + pathsPerCallMax);
    await runProgram("rm", ["--recursive", "--force", "--one-file-system", "--", ...some]);
  }
}

/**
 * Counts the blocks and inodes of a tree, its top directory included; what has several names counts once.
 *
 * Runs in slices, between which other calls get their turn: the synchronous calls are ten times cheaper than the others
 * (forty thousand files in 0.25 s), and a commit waits for this.
 *
 * @throws System errors other than of files that went away meanwhile; `ENOENT` when the tree itself is not there.
 * @source containerd/continuity v0.4.5 fs/du_unix.go `diskUsage`
 */
export async function measureTree(root: string): Promise<SnapshotUsage> {
  const separator = Buffer.from("/");
  const sharedInodes = new Set<bigint>();
  let blocks = 0n;
  let inodes = 0n;
  let sliceEnd = performance.now() + sliceMs;
  const count = (path: string | Buffer): boolean => {
    const stat = lstatSync(path, { bigint: true });
    const isDirectory = stat.isDirectory();
    if (!isDirectory && stat.nlink > 1n) {
      if (sharedInodes.has(stat.ino)) {
        return false;
      }
      sharedInodes.add(stat.ino);
    }
    blocks += stat.blocks;
    inodes += 1n;
    return isDirectory;
  };
  count(root);
  const directories: Buffer[] = [Buffer.from(root)];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for (const name of readNames(directory)) {
      const path = Buffer.concat([directory, separator, name]);
      try {
        if (count(path)) {
          directories.push(path);
        }
      } catch (error) {
        if (systemErrorCode(error) !== "ENOENT") {
          throw error;
        }
      }
      if (performance.now() > sliceEnd) {
        await setImmediate();
        sliceEnd = performance.now() + sliceMs;
      }
    }
  }
  return { sizeBytes: blocks * 512n, inodes };
}

/** How long measuring may keep the process from other calls. */
const sliceMs = 4;

function readNames(directory: Buffer): Buffer[] {
  try {
    return readdirSync(directory, { encoding: "buffer" });
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return [];
    }
    throw error;
  }
}

async function runProgram(program: string, args: readonly string[]): Promise<void> {
  // Loaded when first needed: it takes longer to load than the rest of this process, and many runs never need it.
  const { execa } = await import("execa");
  const ended = await execa(program, args, {
    reject: false,
    stdin: "ignore",
    stdout: "ignore",
    timeout: programMsMax,
    maxBuffer: outputBytesMax,
    env: { LC_ALL: "C" },
  });
  if (ended.failed) {
    const words = ended.stderr.trim() || ended.shortMessage || "failed";
    throw new FlotillaError(ErrorKind.Unknown, words, { cause: ended });
  }
}
