import { randomBytes } from "node:crypto";
import { lstatSync, mkdirSync, renameSync } from "node:fs";
import { mkdir, readdir, rename } from "node:fs/promises";
import { syncDirectory } from "#base/durable-file.ts";
import { ErrorKind, type FlotillaError, failure, systemErrorCode } from "#base/errors.ts";
import { exists } from "#base/exists.ts";
import type { SnapshotUsage } from "./driver.ts";
import type { TreeWorkers } from "./trees.ts";

/** Half made directories begin with this. */
const newPrefix = "new-";
/** Half removed directories begin with this. */
const removedPrefix = "rm-";
/** Directory beside the snapshots for those that nobody knows. */
const asideName = "unknown-snapshots";
/** Trees that are being deleted with nobody waiting; who comes with more of them waits for one. */
const discardedMax = 8;

/**
 * The directories `<root>/snapshots/<id>`, which appear and disappear whole.
 *
 * @source containerd v2.3.4 plugins/snapshots/native/native.go (`new-` and `rm-`)
 */
export class SnapshotDirectories {
  readonly #base: string;
  readonly #aside: string;
  readonly #trees: TreeWorkers;
  readonly #discarded = new Set<Promise<void>>();

  private constructor(root: string, trees: TreeWorkers) {
    this.#base = `${root}/snapshots`;
    this.#aside = `${root}/${asideName}`;
    this.#trees = trees;
  }

  /**
   * Makes the base directory, readable by nobody else, and deletes what a crash left half made or half removed.
   *
   * @throws {@link FlotillaError} `failed_precondition` when containerd's own snapshotter has its index there: its snapshots
   *   have no record with us, and would be taken for garbage.
   */
  static async open(root: string, trees: TreeWorkers): Promise<SnapshotDirectories> {
    if (await exists(`${root}/metadata.db`)) {
      throw failure(
        ErrorKind.FailedPrecondition,
        `${root} holds the snapshots of another daemon (metadata.db); move them or set root_path`,
      );
    }
    const base = `${root}/snapshots`;
    await mkdir(root, { recursive: true, mode: 0o700 });
    await mkdir(base, { recursive: true, mode: 0o700 });
    const names = await readdir(base);
    const leftovers = names.filter((name) => name.startsWith(newPrefix) || name.startsWith(removedPrefix));
    const idIn = (name: string): number => Number(name.split("-")[1]);
    await trees.remove(leftovers.toSorted((left, right) => idIn(right) - idIn(left)).map((name) => `${base}/${name}`));
    return new SnapshotDirectories(root, trees);
  }

  /** The directory of an id, which need not exist. */
  path(id: bigint): string {
    return `${this.#base}/${id}`;
  }

  /**
   * The directory of an id, which exists.
   *
   * @throws {@link FlotillaError} `not_found`.
   */
  async require(id: bigint): Promise<string> {
    const path = this.path(id);
    if (!(await exists(path))) {
      throw missingDirectory(id, path);
    }
    return path;
  }

  /**
   * Counts what a tree that belongs to an id takes on disk, without what it has from `base`.
   *
   * @throws {@link FlotillaError} `not_found` when it is not there.
   */
  async measure(id: bigint, tree: string, base?: string): Promise<SnapshotUsage> {
    try {
      return await this.#trees.measure(tree, base);
    } catch (error) {
      throw systemErrorCode(error) === "ENOENT" ? missingDirectory(id, tree, error) : error;
    }
  }

  /** The ids that have a directory, in no order. */
  async list(): Promise<bigint[]> {
    const names = await readdir(this.#base);
    return names.filter((name) => /^(?:0|[1-9][0-9]*)$/.test(name)).map(BigInt);
  }

  /**
   * Makes the directory of an id, whole or not at all. Does nothing when it is there.
   *
   * Its own few steps are done at once: none waits for the disk, and by way of the pool of threads each would cost ten times what it takes.
   *
   * @param fill - Puts into the given empty directory, of mode 0700, what shall be in it.
   */
  async create(id: bigint, fill: (directory: string) => Promise<void> | void): Promise<void> {
    if (lstatSync(this.path(id), { throwIfNoEntry: false }) !== undefined) {
      return;
    }
    const half = `${this.#base}/${unusedName(newPrefix, id)}`;
    try {
      mkdirSync(half, { mode: 0o700 });
      await fill(half);
      renameSync(half, this.path(id));
    } catch (error) {
      // What cannot be removed now is removed at the next start; the first error is the one to tell.
      await this.#trees.remove([half]).catch(() => undefined);
      throw error;
    }
  }

  /** Moves the directories of ids to a directory beside them, whole. @returns that directory. */
  async putAside(ids: readonly bigint[]): Promise<string> {
    await mkdir(this.#aside, { recursive: true, mode: 0o700 });
    for (const id of ids) {
      const place = `${this.#aside}/${id}`;
      await renameIfThere(this.path(id), (await exists(place)) ? `${this.#aside}/${unusedName("", id)}` : place);
    }
    return this.#aside;
  }

  /** Moves a tree that an id needs no more to where the next start deletes it. @returns Where it is now. */
  hide(id: bigint, path: string): string {
    const hidden = `${this.#base}/${unusedName(removedPrefix, id)}`;
    renameSync(path, hidden);
    return hidden;
  }

  /** Deletes a hidden tree. Resolves while that is under way, unless many are. */
  async discard(hidden: string): Promise<void> {
    // What can't be deleted now is deleted at the next start.
    const removal = this.#trees.remove([hidden]).catch(() => undefined);
    this.#discarded.add(removal);
    void removal.then(() => this.#discarded.delete(removal));
    if (this.#discarded.size > discardedMax) {
      await Promise.race(this.#discarded);
    }
  }

  /**
   * Deletes the directories of ids; each is out of sight before its first file goes, and stays so over a loss of power: by then nobody
   * may know any more that it was released. Children, which have the greater numbers, go before their parents: some file systems insist on that.
   */
  async remove(ids: readonly bigint[]): Promise<void> {
    const hidden: string[] = [];
    try {
      for (const id of ids.toSorted((left, right) => (left < right ? 1 : -1))) {
        const path = `${this.#base}/${unusedName(removedPrefix, id)}`;
        if (await renameIfThere(this.path(id), path)) {
          hidden.push(path);
        }
      }
      if (hidden.length > 0) {
        await syncDirectory(this.#base);
      }
    } finally {
      await this.#trees.remove(hidden);
    }
  }
}

function missingDirectory(id: bigint, path: string, cause?: unknown): FlotillaError {
  return failure(ErrorKind.NotFound, `directory of snapshot ${id} ${path}`, { cause });
}

function unusedName(prefix: string, id: bigint): string {
  return `${prefix}${id}-${randomBytes(6).toString("hex")}`;
}

async function renameIfThere(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return false;
    }
    throw error;
  }
}
