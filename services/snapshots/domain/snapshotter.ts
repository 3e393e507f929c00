import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import type { Mount } from "#linux/mount.ts";
import type { MeasuredDirectory, SnapshotDriver, SnapshotLocation, SnapshotUsage } from "../drivers/driver.ts";
import type { ReleasedSnapshot, SnapshotterFront, SnapshotterFronts } from "./front.ts";
import type { NewSnapshot, SnapshotCommit, SnapshotIndex, SnapshotName, SnapshotRecord } from "./ports.ts";

/** Told of what went wrong beside a call and hinders no client. */
export interface SnapshotterWatch {
  /** A snapshot could not be made, and its record could not be removed either; it stays, and is made when it is mounted. */
  onRecordLeft(name: SnapshotName, error: unknown): void;
  /** Directories could not be deleted. Those that are out of sight are deleted at the next start. */
  onRemovalFailed(snapshotter: string, error: unknown): void;
}

/**
 * One snapshotter: a driver for the directories and the index for the records.
 *
 * A new snapshot is recorded first and made second, and what is made is never taken back before its record is; so a record may
 * be without its directory after a crash, and {@link mounts} makes it then.
 */
export class Snapshotter implements SnapshotterFront {
  readonly name: string;
  readonly driver: SnapshotDriver;
  readonly #index: SnapshotIndex;
  readonly #watch: SnapshotterWatch;
  readonly #locks = new KeyedLock<bigint>();
  /** Active snapshots that were made here, by namespace and key, so that a commit need not look them up first. */
  readonly #active = new Map<string, MadeSnapshot>();

  constructor(name: string, driver: SnapshotDriver, index: SnapshotIndex, watch: SnapshotterWatch) {
    this.name = name;
    this.driver = driver;
    this.#index = index;
    this.#watch = watch;
  }

  get canRebase(): boolean {
    return this.driver.capabilities.includes("rebase");
  }

  /**
   * Makes an active snapshot or a view.
   *
   * When it fails there is neither a record nor a directory; unless removing the record fails too, in which case the snapshot
   * stays and can be used.
   */
  async prepare(snapshot: NewSnapshot): Promise<Mount[]> {
    const remembered = rememberedBy(snapshot);
    this.#active.delete(remembered);
    const location = await this.#index.prepare(snapshot);
    await this.#requireRecord(snapshot, location);
    try {
      await this.create(location);
    } catch (error) {
      await this.#index.remove(snapshot).catch((left: unknown) => this.#watch.onRecordLeft(snapshot, left));
      throw error;
    }
    this.#remember(remembered, location);
    return this.driver.mounts(location);
  }

  /** The mounts of an active snapshot or a view, whose directories are there then, even when a crash had come before them. */
  async mounts(name: SnapshotName): Promise<Mount[]> {
    const { location } = await this.#index.resolve(name);
    if (location.kind === "committed") {
      throw failure(ErrorKind.FailedPrecondition, `requested snapshot ${name.key} not active or view`);
    }
    await this.create(location);
    return this.driver.mounts(location);
  }

  /** Makes an active snapshot that nobody changes any more ready to be committed, so that the commit has nothing but the record to make. */
  async settle(name: SnapshotName, measured?: MeasuredDirectory): Promise<void> {
    const made = this.#active.get(rememberedBy(name));
    if (made !== undefined) {
      const isAll = measured !== undefined && this.driver.measuredDirectory?.(made.location) === measured.root;
      made.usage = isAll ? measured.usage : await this.#seal(made.location);
    }
  }

  /** Turns an active snapshot into a committed one, after the driver has made it ready for that; its usage is recorded with it. */
  async commit(commit: SnapshotCommit): Promise<void> {
    await this.#index.commit(commit, await this.#measureActive(commit));
  }

  /** What a snapshot takes on disk without its parents: as stored when committed, measured when active, nothing for a view. */
  async usage(name: SnapshotName): Promise<SnapshotUsage> {
    const { location, usage } = await this.#index.resolve(name);
    if (location.kind === "active") {
      return await this.driver.measure(location);
    }
    return usage ?? { sizeBytes: 0n, inodes: 0n };
  }

  /** Whether there is a committed snapshot of that name. */
  async isCommitted(name: SnapshotName): Promise<boolean> {
    return (await this.#find(name))?.location.kind === "committed";
  }

  /** The mounts that a view of a committed snapshot would have, with nothing made for it. */
  async viewCommitted(name: SnapshotName): Promise<Mount[]> {
    const { id, parentIds, labels } = (await this.#index.resolve(name)).location;
    return this.driver.mounts({ id, parentIds: [id, ...parentIds], labels, kind: "view" });
  }

  /** Removes the record of a snapshot; the collector frees the directories. One that is not there is no error. */
  async remove(name: SnapshotName): Promise<void> {
    try {
      await this.#index.remove(name);
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        throw error;
      }
    }
  }

  /** Makes the directories of a recorded snapshot if they are not there. */
  create(location: SnapshotLocation): Promise<void> {
    return this.#locks.run([location.id], () => this.driver.create(location));
  }

  /** Moves directories that no record knows out of the way. @returns where they are now. */
  putAside(ids: readonly bigint[]): Promise<string> {
    return this.#locks.run(ids, () => this.driver.putAside(ids));
  }

  /** Deletes directories. @returns the ids whose directories are gone, whoever deleted them. */
  removeReleased(released: readonly ReleasedSnapshot[]): Promise<readonly bigint[]> {
    const ids = released.map(({ id }) => id);
    return this.#locks.run(ids, async () => {
      try {
        await this.driver.remove(ids);
        return ids;
      } catch (error) {
        this.#watch.onRemovalFailed(this.name, error);
        const left = new Set(await this.driver.listIds());
        return ids.filter((id) => !left.has(id));
      }
    });
  }

  /** The oldest is forgotten when there are many: it is looked up then. */
  #remember(key: string, location: SnapshotLocation): void {
    if (location.kind === "active") {
      this.#active.set(key, { location, usage: undefined });
      const [oldest] = this.#active.size > rememberedMax ? this.#active.keys() : [];
      if (oldest !== undefined) {
        this.#active.delete(oldest);
      }
    }
  }

  /** A call that is made again gets the record that it had made, which may have gone since. */
  async #requireRecord(snapshot: NewSnapshot, { id }: SnapshotLocation): Promise<void> {
    if (snapshot.call?.repeatedAfterMs !== undefined && (await this.#find(snapshot))?.location.id !== id) {
      throw failure(ErrorKind.Unavailable, `snapshot ${snapshot.key} was removed before its process came back`);
    }
  }

  /** What the snapshot takes that is to be committed. What was made here and is still there need not be looked up. */
  async #measureActive(name: SnapshotName): Promise<SnapshotUsage | undefined> {
    const key = rememberedBy(name);
    const made = this.#active.get(key);
    this.#active.delete(key);
    if (made !== undefined) {
      try {
        return made.usage ?? (await this.#seal(made.location));
      } catch (error) {
        if (!isFailure(error, ErrorKind.NotFound)) {
          throw error;
        }
        // It was removed meanwhile, and the index says what the key means now.
      }
    }
    const active = await this.#findActive(name);
    return active === undefined ? undefined : await this.#seal(active);
  }

  /** Makes a snapshot ready to be committed. @returns what it takes then. */
  async #seal(active: SnapshotLocation): Promise<SnapshotUsage> {
    if (this.driver.seal !== undefined) {
      await this.#locks.run([active.id], async () => await this.driver.seal?.(active));
    }
    return await this.driver.measure(active);
  }

  /** The location of what is to be committed; undefined when it is not there or not active, which the index then refuses. */
  async #findActive(name: SnapshotName): Promise<SnapshotLocation | undefined> {
    const location = (await this.#find(name))?.location;
    return location?.kind === "active" ? location : undefined;
  }

  async #find(name: SnapshotName): Promise<SnapshotRecord | undefined> {
    try {
      return await this.#index.resolve(name);
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        return undefined;
      }
      throw error;
    }
  }
}

/** An active snapshot that was made here. */
interface MadeSnapshot {
  readonly location: SnapshotLocation;
  /** What it takes, once it is ready to be committed. */
  usage: SnapshotUsage | undefined;
}

/** Active snapshots that are remembered; most are committed or removed soon. */
const rememberedMax = 4096;

function rememberedBy({ namespace, key }: SnapshotName): string {
  return `${namespace}/${key}`;
}

/**
 * The snapshotter that a request names.
 *
 * @throws {@link FlotillaError} `invalid_argument`, and not `not_found`, when there is none.
 * @source containerd v2.3.4 plugins/services/snapshots/service.go `getSnapshotter`
 */
export function getSnapshotter(snapshotters: SnapshotterFronts, name: string): SnapshotterFront {
  if (name === "") {
    throw failure(ErrorKind.InvalidArgument, "snapshotter argument missing");
  }
  const snapshotter = snapshotters.get(name);
  if (snapshotter === undefined) {
    throw failure(ErrorKind.InvalidArgument, `snapshotter not loaded: ${name}`);
  }
  return snapshotter;
}
