import type { Statement } from "#sqlite/open.ts";
import type { Records } from "./records.ts";
import type { ReleaseStore } from "./releases.ts";
import type { SnapshotLocation } from "./snapshot-records.ts";
import type { SnapshotStore } from "./snapshots.ts";

/** A snapshotter that is loaded, and the ids that have directories. */
export interface LoadedSnapshotter {
  readonly name: string;
  readonly ids: readonly bigint[];
  /** Whether somebody else keeps its snapshots, so that there are no directories. */
  readonly proxied: boolean;
}

/** What the snapshots process has to put right. */
export interface SnapshotRepair {
  readonly snapshotter: string;
  /** Directories that nobody knows: without a record, and not released either, which the collector removes. */
  readonly orphanIds: readonly bigint[];
  /** Records without directories. */
  readonly missing: readonly SnapshotLocation[];
}

interface Recorded {
  readonly id: bigint;
  readonly namespace: string;
  readonly key: string;
}

/**
 * Which snapshotters are loaded, as the snapshots process last said.
 */
export class SnapshotterStore {
  readonly #records: Records;
  readonly #releases: ReleaseStore;
  readonly #snapshots: SnapshotStore;
  readonly #isLoaded: Statement<[string], number>;
  readonly #clear: Statement<[]>;
  readonly #load: Statement<[string, number]>;
  readonly #recorded: Statement<[string], Recorded>;
  readonly #raise: Statement<[string, bigint]>;

  constructor(records: Records, releases: ReleaseStore, snapshots: SnapshotStore) {
    const { database } = records;
    this.#records = records;
    this.#releases = releases;
    this.#snapshots = snapshots;
    this.#isLoaded = database.prepare<[string], number>("SELECT 1 FROM loaded_snapshotters WHERE name = ?").pluck();
    this.#clear = database.prepare("DELETE FROM loaded_snapshotters");
    this.#load = database.prepare("INSERT OR IGNORE INTO loaded_snapshotters (name, proxied) VALUES (?, ?)");
    this.#recorded = database
      .prepare<[string], Recorded>("SELECT id, namespace, key FROM snapshots WHERE snapshotter = ? ORDER BY id")
      .safeIntegers();
    this.#raise = database.prepare(
      `INSERT INTO sequences (name, last) VALUES (?, ?)
       ON CONFLICT (name) DO UPDATE SET last = max(last, excluded.last)`,
    );
  }

  isLoaded(snapshotter: string): boolean {
    return this.#isLoaded.get(snapshotter) !== undefined;
  }

  /**
   * Takes note of what is loaded and on disk, and finds what does not fit.
   *
   * Ids on disk are never given out again, even if the records that knew them are lost.
   */
  reconcile(loaded: readonly LoadedSnapshotter[]): Promise<SnapshotRepair[]> {
    return this.#records.maintain(() => {
      this.#clear.run();
      return loaded
        .map((snapshotter) => this.#compare(snapshotter))
        .filter(({ orphanIds, missing }) => orphanIds.length > 0 || missing.length > 0);
    });
  }

  #compare({ name, ids, proxied }: LoadedSnapshotter): SnapshotRepair {
    this.#load.run(name, Number(proxied));
    if (proxied) {
      return { snapshotter: name, orphanIds: [], missing: [] };
    }
    const onDisk = new Set(ids);
    const released = new Set(this.#releases.listSnapshotIds(name));
    for (const id of released) {
      if (!onDisk.has(id)) {
        this.#releases.removeSnapshot(name, id);
      }
    }
    this.#raise.run(
      `snapshots/${name}`,
      ids.reduce((highest, id) => (id > highest ? id : highest), 0n),
    );
    const recorded = this.#recorded.all(name);
    const known = new Set(recorded.map(({ id }) => id));
    return {
      snapshotter: name,
      orphanIds: ids.filter((id) => !known.has(id) && !released.has(id)),
      missing: recorded
        .filter(({ id }) => !onDisk.has(id))
        .map(({ namespace, key }) => this.#snapshots.resolve({ namespace, snapshotter: name, key }).location),
    };
  }
}
