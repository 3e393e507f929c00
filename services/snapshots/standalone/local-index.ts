import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { timestampOf, wallClock } from "#base/times.ts";
import { applyFieldMask, maskedMap } from "#containerd/field-mask.ts";
import { type Labels, withoutEmptyLabels } from "#containerd/labels.ts";
import { type Info, InfoSchema, Kind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { migrate } from "#sqlite/migrate.ts";
import { type Database, openDatabase } from "#sqlite/open.ts";
import { CommitQueue } from "#sqlite/transaction.ts";
import type { LoadedSnapshotter, NewSnapshot, SnapshotIndex, SnapshotRecord, SnapshotRepair } from "../domain/ports.ts";
import type { SnapshotKind, SnapshotLocation } from "../drivers/driver.ts";

const migrations: readonly string[] = [
  `
  CREATE TABLE snapshots (
    key TEXT PRIMARY KEY, id INTEGER NOT NULL UNIQUE, parent TEXT NOT NULL, message BLOB NOT NULL, size INTEGER, inodes INTEGER
  );
  CREATE INDEX snapshots_by_parent ON snapshots (parent) WHERE parent != '';
  CREATE TABLE sequence (last INTEGER NOT NULL);
  INSERT INTO sequence VALUES (0);
  `,
];

interface Row {
  readonly key: string;
  readonly id: bigint;
  readonly parent: string;
  readonly message: Uint8Array;
  readonly size: bigint | null;
  readonly inodes: bigint | null;
}

const kinds: Readonly<Record<Kind, SnapshotKind>> = {
  [Kind.UNKNOWN]: "active",
  [Kind.VIEW]: "view",
  [Kind.ACTIVE]: "active",
  [Kind.COMMITTED]: "committed",
};

/**
 * The records of a snapshotter that stands alone: one space of keys in a database beside the directories, without namespaces and leases, which
 * whoever uses the snapshotter keeps.
 *
 * @source containerd v2.3.4 core/snapshots/storage/bolt.go
 */
export class LocalSnapshotIndex implements SnapshotIndex, Disposable {
  readonly #database: Database;
  readonly #commits: CommitQueue;

  /** Opens the database, or makes it. */
  constructor(path: string) {
    this.#database = openDatabase(path);
    migrate(this.#database, migrations);
    this.#commits = new CommitQueue(this.#database);
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  prepare({ key, parent, labels, kind }: NewSnapshot): Promise<SnapshotLocation> {
    return this.#commits.run(() => {
      if (key === "") {
        throw failure(ErrorKind.InvalidArgument, "the key of a snapshot must not be empty");
      }
      if (this.#find(key) !== undefined) {
        throw failure(ErrorKind.AlreadyExists, `snapshot ${quote(key)}`);
      }
      this.#requireParent(parent);
      const id = this.#nextId();
      this.#insert(newInfo(key, parent, kind === "view" ? Kind.VIEW : Kind.ACTIVE, labels), id, undefined);
      return this.#locate(this.#require(key));
    });
  }

  resolve({ key }: { readonly key: string }): Promise<SnapshotRecord> {
    return this.#commits.run(() => {
      const row = this.#require(key);
      return {
        location: this.#locate(row),
        usage: row.size === null || row.inodes === null ? undefined : { sizeBytes: row.size, inodes: row.inodes },
      };
    });
  }

  commit(
    { key, name, labels, parent }: Parameters<SnapshotIndex["commit"]>[0],
    usage: Parameters<SnapshotIndex["commit"]>[1],
  ): Promise<void> {
    return this.#commits.run(() => {
      if (this.#find(name) !== undefined) {
        throw failure(ErrorKind.AlreadyExists, `snapshot ${quote(name)}`);
      }
      const row = this.#require(key);
      if (infoOf(row).kind !== Kind.ACTIVE) {
        throw failure(ErrorKind.FailedPrecondition, `snapshot ${quote(key)} is not active`);
      }
      if (row.parent !== "" && parent !== "" && parent !== row.parent) {
        throw failure(ErrorKind.InvalidArgument, `cannot change parent of active snapshot ${quote(key)}`);
      }
      const below = row.parent || parent;
      this.#requireParent(below);
      this.#database.prepare("DELETE FROM snapshots WHERE key = ?").run(key);
      this.#insert(newInfo(name, below, Kind.COMMITTED, labels), row.id, usage);
    });
  }

  async remove({ key }: { readonly key: string }): Promise<void> {
    await this.take(key);
  }

  /** Removes a record. @returns the id whose directories nobody needs now. */
  take(key: string): Promise<bigint> {
    return this.#commits.run(() => {
      const { id } = this.#require(key);
      if (this.#database.prepare("SELECT 1 FROM snapshots WHERE parent = ? LIMIT 1").get(key) !== undefined) {
        throw failure(ErrorKind.FailedPrecondition, "cannot remove snapshot with child");
      }
      this.#database.prepare("DELETE FROM snapshots WHERE key = ?").run(key);
      return id;
    });
  }

  /** What is known of a snapshot. */
  stat(key: string): Info {
    return infoOf(this.#require(key));
  }

  /** All that is known, by key. */
  list(): Info[] {
    return this.#database
      .prepare<[], Row>("SELECT * FROM snapshots ORDER BY key")
      .safeIntegers()
      .all()
      .map((row) => infoOf(row));
  }

  /** @param paths - Of the update mask; none replaces all labels. */
  update(key: string, labels: Labels, paths: readonly string[]): Promise<Info> {
    return this.#commits.run(() => {
      const info = infoOf(this.#require(key));
      const fields = { labels: maskedMap(info, "labels", labels, "") };
      applyFieldMask(paths.length === 0 ? ["labels"] : paths, fields, (path) =>
        failure(ErrorKind.InvalidArgument, `cannot update ${quote(path)} field on snapshot ${quote(key)}`),
      );
      info.labels = withoutEmptyLabels(info.labels);
      info.updatedAt = timestampOf(wallClock());
      this.#database.prepare("UPDATE snapshots SET message = ? WHERE key = ?").run(toBinary(InfoSchema, info), key);
      return info;
    });
  }

  /** Directories without a record are what a removal has left: whoever asks deletes them. */
  reconcile(loaded: readonly LoadedSnapshotter[]): Promise<SnapshotRepair[]> {
    return this.#commits.run(() =>
      loaded.map(({ name, ids }) => {
        const rows = this.#database.prepare<[], Row>("SELECT * FROM snapshots ORDER BY id").safeIntegers().all();
        const recorded = new Set(rows.map(({ id }) => id));
        const onDisk = new Set(ids);
        const highest = ids.reduce((max, id) => (id > max ? id : max), 0n);
        this.#database.prepare("UPDATE sequence SET last = max(last, ?)").run(highest);
        return {
          snapshotter: name,
          orphanIds: ids.filter((id) => !recorded.has(id)),
          missing: rows.filter(({ id }) => !onDisk.has(id)).map((row) => this.#locate(row)),
        };
      }),
    );
  }

  #requireParent(parent: string): void {
    const row = parent === "" ? undefined : this.#find(parent);
    if (parent !== "" && row === undefined) {
      throw failure(ErrorKind.NotFound, `parent snapshot ${parent} does not exist`);
    }
    if (row !== undefined && infoOf(row).kind !== Kind.COMMITTED) {
      throw failure(ErrorKind.InvalidArgument, `parent ${quote(parent)} is not committed snapshot`);
    }
  }

  #insert(info: Info, id: bigint, usage: { readonly sizeBytes: bigint; readonly inodes: bigint } | undefined): void {
    this.#database
      .prepare("INSERT INTO snapshots (key, id, parent, message, size, inodes) VALUES (?, ?, ?, ?, ?, ?)")
      .run(info.name, id, info.parent, toBinary(InfoSchema, info), usage?.sizeBytes ?? null, usage?.inodes ?? null);
  }

  #nextId(): bigint {
    const row = this.#database
      .prepare<[], { readonly last: bigint }>("UPDATE sequence SET last = last + 1 RETURNING last")
      .safeIntegers()
      .get();
    return row?.last ?? 1n;
  }

  #locate(row: Row): SnapshotLocation {
    const parentIds: bigint[] = [];
    for (let { parent } = row; parent !== ""; ) {
      const ancestor = this.#require(parent);
      parentIds.push(ancestor.id);
      ({ parent } = ancestor);
    }
    const { kind, labels } = infoOf(row);
    return { id: row.id, parentIds, kind: kinds[kind] ?? "active", labels };
  }

  #find(key: string): Row | undefined {
    return this.#database.prepare<[string], Row>("SELECT * FROM snapshots WHERE key = ?").safeIntegers().get(key);
  }

  #require(key: string): Row {
    const row = this.#find(key);
    if (row === undefined) {
      throw failure(ErrorKind.NotFound, `snapshot ${key} does not exist`);
    }
    return row;
  }
}

function infoOf({ message }: Row): Info {
  return fromBinary(InfoSchema, message);
}

function newInfo(name: string, parent: string, kind: Kind, labels: Labels): Info {
  const now = timestampOf(wallClock());
  return create(InfoSchema, { name, parent, kind, createdAt: now, updatedAt: now, labels: withoutEmptyLabels(labels) });
}
