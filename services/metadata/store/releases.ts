import type { Database, Statement } from "#sqlite/open.ts";

/** A blob whose file nobody needs. */
export interface CondemnedBlob {
  /** Tells this condemnation from every other, of the same digest too. */
  readonly generation: number;
  readonly digest: string;
}

/** A snapshot whose directories nobody needs. */
export interface ReleasedSnapshot {
  /** Grows with every release, so that children come before their parents. */
  readonly release: bigint;
  readonly snapshotter: string;
  readonly id: bigint;
  /** What a proxied snapshotter knows it by, "" for all others. */
  readonly backendName: string;
}

/**
 * Files that no record names any more and that their owner still has to remove. All methods that change something run
 * inside a change.
 *
 * A digest is *condemned* from when its last record goes until its file is gone. While it is only condemned it may be wanted
 * again, which ends the condemnation. Once the content process has been told to go ahead it is *being deleted*; then the
 * file counts as absent, and only new bytes bring the digest back.
 */
export class ReleaseStore {
  readonly #condemn: Statement<[string, bigint | null, string, string]>;
  readonly #pardon: Statement<[string]>;
  readonly #findSize: Statement<[string], bigint | null>;
  readonly #has: Statement<[string], number>;
  readonly #beginDeleting: Statement<[string]>;
  readonly #listBlobs: Statement<[number, number], CondemnedBlob>;
  readonly #removeBlob: Statement<[number]>;
  readonly #releaseIngest: Statement<[string]>;
  readonly #listIngests: Statement<[string, number], string>;
  readonly #hasBlobToRemove: Statement<[], number>;
  readonly #removeIngest: Statement<[string]>;
  readonly #releaseSnapshot: Statement<[string, bigint, string]>;
  readonly #pardonSnapshots: Statement<[string, bigint, string]>;
  readonly #listSnapshots: Statement<[bigint, number], ReleasedSnapshot>;
  readonly #removeSnapshot: Statement<[string, bigint]>;
  readonly #listSnapshotIds: Statement<[string], bigint>;
  readonly #releaseMount: Statement<[bigint]>;
  readonly #listMounts: Statement<[bigint, number], bigint>;
  readonly #removeMount: Statement<[bigint]>;

  constructor(database: Database) {
    this.#condemn = database.prepare(
      `INSERT OR IGNORE INTO released_blobs (digest, size, deleting) SELECT ?, ?, 0
       WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE digest = ?)
         AND NOT EXISTS (SELECT 1 FROM ingests WHERE expected = ? AND expected != '')`,
    );
    this.#pardon = database.prepare("DELETE FROM released_blobs WHERE digest = ?");
    this.#findSize = database
      .prepare<[string], bigint | null>("SELECT size FROM released_blobs WHERE digest = ? AND deleting = 0")
      .pluck()
      .safeIntegers();
    this.#has = database.prepare<[string], number>("SELECT 1 FROM released_blobs WHERE digest = ?").pluck();
    this.#beginDeleting = database.prepare("UPDATE released_blobs SET deleting = 1 WHERE digest = ?");
    this.#listBlobs = database.prepare(
      "SELECT generation, digest FROM released_blobs WHERE generation > ? ORDER BY generation LIMIT ?",
    );
    this.#removeBlob = database.prepare("DELETE FROM released_blobs WHERE generation = ? AND deleting = 1");
    this.#releaseIngest = database.prepare("INSERT OR IGNORE INTO released_ingests (backend_ref) VALUES (?)");
    this.#listIngests = database
      .prepare<[string, number], string>(
        "SELECT backend_ref FROM released_ingests WHERE backend_ref > ? ORDER BY backend_ref LIMIT ?",
      )
      .pluck();
    this.#hasBlobToRemove = database
      .prepare<[], number>(
        `SELECT EXISTS (SELECT 1 FROM released_blobs WHERE size IS NOT NULL)
             OR EXISTS (SELECT 1 FROM released_ingests)`,
      )
      .pluck();
    this.#removeIngest = database.prepare("DELETE FROM released_ingests WHERE backend_ref = ?");
    this.#releaseSnapshot = database.prepare(
      "INSERT OR IGNORE INTO released_snapshots (snapshotter, id, backend_name) VALUES (?, ?, ?)",
    );
    this.#pardonSnapshots = database.prepare(
      "DELETE FROM released_snapshots WHERE snapshotter = ? AND (id = ? OR backend_name = ?)",
    );
    this.#listSnapshots = database
      .prepare<[bigint, number], ReleasedSnapshot>(
        `SELECT release, snapshotter, id, backend_name AS backendName FROM released_snapshots
         WHERE release > ? AND snapshotter IN (SELECT name FROM loaded_snapshotters) ORDER BY release LIMIT ?`,
      )
      .safeIntegers();
    this.#removeSnapshot = database.prepare("DELETE FROM released_snapshots WHERE snapshotter = ? AND id = ?");
    this.#listSnapshotIds = database
      .prepare<[string], bigint>("SELECT id FROM released_snapshots WHERE snapshotter = ?")
      .pluck()
      .safeIntegers();
    this.#releaseMount = database.prepare("INSERT OR IGNORE INTO released_mounts (id) VALUES (?)");
    this.#listMounts = database
      .prepare<[bigint, number], bigint>("SELECT id FROM released_mounts WHERE id > ? ORDER BY id LIMIT ?")
      .pluck()
      .safeIntegers();
    this.#removeMount = database.prepare("DELETE FROM released_mounts WHERE id = ?");
  }

  /**
   * Condemns a digest unless a record still names it.
   *
   * @param sizeBytes - Of its file, or undefined where nobody knows; such a one cannot be pardoned by {@link findCondemned}.
   * @returns Whether the digest is condemned now.
   */
  condemnUnlessNamed(digest: string, sizeBytes?: bigint): boolean {
    return this.#condemn.run(digest, sizeBytes ?? null, digest, digest).changes > 0;
  }

  /** The size of a blob that is condemned and whose file is there for sure, or undefined. */
  findCondemned(digest: string): bigint | undefined {
    return this.#findSize.get(digest) ?? undefined;
  }

  /** Tells whether a digest is condemned or being deleted. */
  isCondemned(digest: string): boolean {
    return this.#has.get(digest) !== undefined;
  }

  /** Ends the condemnation of a digest, if it is condemned. */
  pardon(digest: string): void {
    this.#pardon.run(digest);
  }

  /**
   * Lets the file of a digest be deleted.
   *
   * @returns false when the digest is not condemned; its file must stay then.
   */
  beginDeleting(digest: string): boolean {
    return this.#beginDeleting.run(digest).changes > 0;
  }

  /** Tells whether there is anything to remove but files that were found without a record. */
  hasBlobsToRemove(): boolean {
    return this.#hasBlobToRemove.get() === 1;
  }

  /** Condemned blobs after a generation, oldest first. */
  listBlobs(afterGeneration: number, countMax: number): CondemnedBlob[] {
    return this.#listBlobs.all(afterGeneration, countMax);
  }

  /** Notes that the file of a condemned blob is gone. */
  removeBlob(generation: number): void {
    this.#removeBlob.run(generation);
  }

  releaseIngest(backendRef: string): void {
    this.#releaseIngest.run(backendRef);
  }

  /** Released ingests after a backend ref. */
  listIngests(afterBackendRef: string, countMax: number): string[] {
    return this.#listIngests.all(afterBackendRef, countMax);
  }

  /** Notes that the files of an ingest are gone. */
  removeIngest(backendRef: string): void {
    this.#removeIngest.run(backendRef);
  }

  /** @param backendName - What a proxied snapshotter knows it by, "" for all others. */
  releaseSnapshot(snapshotter: string, id: bigint, backendName: string): void {
    this.#releaseSnapshot.run(snapshotter, id, backendName);
  }

  /** Takes back that a snapshot of a proxied snapshotter is released, by its id or by what the snapshotter knows it by. */
  pardonSnapshot(snapshotter: string, id: bigint, backendName: string): void {
    this.#pardonSnapshots.run(snapshotter, id, backendName);
  }

  /** Released snapshots of loaded snapshotters after a release, children before parents. */
  listSnapshots(afterRelease: bigint, countMax: number): ReleasedSnapshot[] {
    return this.#listSnapshots.all(afterRelease, countMax);
  }

  /** Notes that the directories of a snapshot are gone. */
  removeSnapshot(snapshotter: string, id: bigint): void {
    this.#removeSnapshot.run(snapshotter, id);
  }

  releaseMount(id: bigint): void {
    this.#releaseMount.run(id);
  }

  /** Released activations of mounts after an id. */
  listMounts(afterId: bigint, countMax: number): bigint[] {
    return this.#listMounts.all(afterId, countMax);
  }

  /** Notes that the mounts of an activation are off. */
  removeMount(id: bigint): void {
    this.#removeMount.run(id);
  }

  /** The ids of a snapshotter that are released. */
  listSnapshotIds(snapshotter: string): bigint[] {
    return this.#listSnapshotIds.all(snapshotter);
  }
}
