import type { Database, Statement } from "#sqlite/open.ts";
import type { NamedRecord } from "./named-record.ts";

/** A row of the table of snapshots. */
export interface SnapshotRow {
  readonly key: string;
  readonly id: bigint;
  readonly kind: bigint;
  readonly parent: string;
  readonly message: Uint8Array;
  readonly size: bigint | null;
  readonly inodes: bigint | null;
  readonly backend_name: string;
}

/** The statements on the table of snapshots. Namespace, snapshotter and key name a row, in this order. */
export class SnapshotRows {
  readonly find: Statement<[string, string, string], SnapshotRow>;
  /** Those of a namespace and snapshotter after a key, at most so many. */
  readonly page: Statement<[string, string, string, number], NamedRecord>;
  /** The ids of the ancestors, nearest first. */
  readonly ancestors: Statement<[string, string, string], bigint>;
  readonly hasChild: Statement<[string, string, string], number>;
  readonly insert: Statement<
    [string, string, string, bigint, number, string, Uint8Array, bigint | null, bigint | null, string]
  >;
  readonly setMessage: Statement<[Uint8Array, string, string, string]>;
  readonly remove: Statement<[string, string, string], Pick<SnapshotRow, "id" | "backend_name">>;
  /** By snapshotter and name: whether a record has what a proxied snapshotter knows by that name. */
  readonly isShared: Statement<[string, string], number>;

  constructor(database: Database) {
    this.find = database
      .prepare<[string, string, string], SnapshotRow>(
        `SELECT key, id, kind, parent, message, size, inodes, backend_name FROM snapshots
         WHERE namespace = ? AND snapshotter = ? AND key = ?`,
      )
      .safeIntegers();
    this.page = database.prepare(
      `SELECT key AS name, message FROM snapshots
       WHERE namespace = ? AND snapshotter = ? AND key > ? ORDER BY key LIMIT ?`,
    );
    this.ancestors = database
      .prepare<[string, string, string], bigint>(
        `WITH RECURSIVE ancestor (namespace, snapshotter, key, id, parent, depth) AS (
           SELECT namespace, snapshotter, key, id, parent, 0 FROM snapshots
           WHERE namespace = ? AND snapshotter = ? AND key = ?
           UNION ALL
           SELECT s.namespace, s.snapshotter, s.key, s.id, s.parent, depth + 1 FROM ancestor
           JOIN snapshots s USING (namespace, snapshotter) WHERE s.key = ancestor.parent
         )
         SELECT id FROM ancestor WHERE depth > 0 ORDER BY depth`,
      )
      .pluck()
      .safeIntegers();
    this.hasChild = database
      .prepare<[string, string, string], number>(
        "SELECT 1 FROM snapshots WHERE namespace = ? AND snapshotter = ? AND parent = ? AND parent != '' LIMIT 1",
      )
      .pluck();
    this.insert = database.prepare(
      `INSERT INTO snapshots (namespace, snapshotter, key, id, kind, parent, message, size, inodes, backend_name)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.setMessage = database.prepare(
      "UPDATE snapshots SET message = ? WHERE namespace = ? AND snapshotter = ? AND key = ?",
    );
    this.remove = database
      .prepare<[string, string, string], Pick<SnapshotRow, "id" | "backend_name">>(
        "DELETE FROM snapshots WHERE namespace = ? AND snapshotter = ? AND key = ? RETURNING id, backend_name",
      )
      .safeIntegers();
    this.isShared = database
      .prepare<[string, string], number>(
        "SELECT 1 FROM snapshots WHERE snapshotter = ? AND backend_name = ? AND backend_name != '' LIMIT 1",
      )
      .pluck();
  }
}
