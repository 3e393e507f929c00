/**
 * The schema of `meta.db`, one script for each release that changed it.
 *
 * Every resource keeps the protobuf message that clients get, encoded, in `message`. What the collector follows stands in
 * `nodes` and `edges` beside it, so that marking reads none of the messages.
 *
 * - `collections` remembers which kinds of resources a namespace has ever had, since error texts depend on it.
 * - `nodes` are all resources that the collector knows, with what makes them roots; `edges` lead from a node to a resource
 *   of the same namespace, which need not exist.
 * - What the collector removes in numbers is kept in the order of its name, which is the order in which the collector removes: a commit
 *   writes whole pages, and one that changes a hundred neighbours writes few of them.
 * - `released_*` are files that no record names any more and that their owner has not removed yet.
 * - `backend_name` is what a snapshotter of somebody else knows a snapshot by, "" for our own. Several records may share one.
 * - `kept_calls` are the newest calls that changed something, with what came of them. It has no index but the order in which they came, since it
 *   is looked into after a crash alone.
 * - `outbox` holds events that the events process has not taken yet.
 */
export const migrations: readonly string[] = [
  `
  CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  INSERT INTO facts VALUES ('id', lower(hex(randomblob(8))));

  CREATE TABLE sequences (name TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;

  CREATE TABLE namespaces (name TEXT PRIMARY KEY, message BLOB NOT NULL) WITHOUT ROWID;
  CREATE TABLE collections (namespace TEXT, name TEXT, PRIMARY KEY (namespace, name)) WITHOUT ROWID;

  CREATE TABLE containers (
    namespace TEXT NOT NULL, id TEXT NOT NULL, message BLOB NOT NULL, PRIMARY KEY (namespace, id)
  );
  CREATE TABLE images (
    namespace TEXT NOT NULL, name TEXT NOT NULL, message BLOB NOT NULL, PRIMARY KEY (namespace, name)
  );
  CREATE TABLE sandboxes (
    namespace TEXT NOT NULL, id TEXT NOT NULL, message BLOB NOT NULL, PRIMARY KEY (namespace, id)
  );
  CREATE TABLE leases (
    namespace TEXT NOT NULL, id TEXT NOT NULL, message BLOB NOT NULL, PRIMARY KEY (namespace, id)
  );
  CREATE TABLE lease_resources (
    namespace TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
    UNIQUE (namespace, lease, type, id)
  );
  CREATE TABLE blobs (
    namespace TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, message BLOB NOT NULL,
    PRIMARY KEY (namespace, digest)
  );
  CREATE INDEX blobs_by_digest ON blobs (digest);
  CREATE TABLE ingests (
    namespace TEXT NOT NULL, ref TEXT NOT NULL, backend_ref TEXT NOT NULL, expected TEXT NOT NULL,
    expected_size INTEGER, expires_ms REAL,
    PRIMARY KEY (namespace, ref)
  );
  CREATE UNIQUE INDEX ingests_by_backend_ref ON ingests (backend_ref);
  CREATE INDEX ingests_by_expected ON ingests (expected) WHERE expected != '';
  CREATE TABLE snapshots (
    namespace TEXT NOT NULL, snapshotter TEXT NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL, kind INTEGER NOT NULL,
    parent TEXT NOT NULL, message BLOB NOT NULL, size INTEGER, inodes INTEGER,
    PRIMARY KEY (namespace, snapshotter, key)
  );
  CREATE UNIQUE INDEX snapshots_by_id ON snapshots (snapshotter, id);
  CREATE INDEX snapshots_by_parent ON snapshots (namespace, snapshotter, parent) WHERE parent != '';
  CREATE TABLE loaded_snapshotters (name TEXT PRIMARY KEY) WITHOUT ROWID;

  CREATE TABLE nodes (
    node INTEGER PRIMARY KEY, namespace TEXT NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL,
    root INTEGER NOT NULL, flat INTEGER NOT NULL, expires_ms REAL, used_ms TEXT,
    UNIQUE (namespace, kind, key)
  );
  CREATE TABLE edges (
    edge INTEGER PRIMARY KEY, source INTEGER NOT NULL REFERENCES nodes ON DELETE CASCADE, relation INTEGER NOT NULL,
    kind INTEGER NOT NULL, key TEXT NOT NULL, condition TEXT
  );
  CREATE INDEX edges_by_source ON edges (source);
  CREATE INDEX edges_by_target ON edges (kind, key) WHERE relation = 2;

  CREATE TABLE released_blobs (
    generation INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL UNIQUE, size INTEGER, deleting INTEGER NOT NULL
  );
  CREATE TABLE released_ingests (backend_ref TEXT PRIMARY KEY) WITHOUT ROWID;
  CREATE TABLE released_snapshots (
    release INTEGER PRIMARY KEY AUTOINCREMENT, snapshotter TEXT NOT NULL, id INTEGER NOT NULL, UNIQUE (snapshotter, id)
  );

  CREATE TABLE outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, envelope BLOB NOT NULL);
  `,
  `
  CREATE TABLE ordered_blobs (
    namespace TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, message BLOB NOT NULL,
    PRIMARY KEY (namespace, digest)
  ) WITHOUT ROWID;
  INSERT INTO ordered_blobs SELECT namespace, digest, size, message FROM blobs ORDER BY namespace, digest;
  DROP TABLE blobs;
  ALTER TABLE ordered_blobs RENAME TO blobs;
  CREATE INDEX blobs_by_digest ON blobs (digest);

  CREATE TABLE ordered_nodes (
    namespace TEXT NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL,
    root INTEGER NOT NULL, flat INTEGER NOT NULL, expires_ms REAL, used_ms TEXT,
    PRIMARY KEY (namespace, kind, key)
  ) WITHOUT ROWID;
  INSERT INTO ordered_nodes
    SELECT namespace, kind, key, root, flat, expires_ms, used_ms FROM nodes ORDER BY namespace, kind, key;
  CREATE TABLE ordered_edges (
    namespace TEXT NOT NULL, source_kind INTEGER NOT NULL, source TEXT NOT NULL, number INTEGER NOT NULL,
    relation INTEGER NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL, condition TEXT,
    PRIMARY KEY (namespace, source_kind, source, number)
  ) WITHOUT ROWID;
  INSERT INTO ordered_edges
    SELECT namespace, nodes.kind, nodes.key, edge, relation, edges.kind, edges.key, condition
    FROM edges JOIN nodes ON node = source;
  DROP TABLE edges;
  DROP TABLE nodes;
  ALTER TABLE ordered_nodes RENAME TO nodes;
  ALTER TABLE ordered_edges RENAME TO edges;
  CREATE INDEX edges_by_target ON edges (namespace, kind, key) WHERE relation = 2;
  `,
  `
  ALTER TABLE loaded_snapshotters ADD COLUMN proxied INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE snapshots ADD COLUMN backend_name TEXT NOT NULL DEFAULT '';
  ALTER TABLE released_snapshots ADD COLUMN backend_name TEXT NOT NULL DEFAULT '';
  CREATE INDEX snapshots_by_backend_name ON snapshots (snapshotter, backend_name) WHERE backend_name != '';
  `,
  `
  CREATE TABLE mounts (
    namespace TEXT NOT NULL, name TEXT NOT NULL, id INTEGER NOT NULL, lease TEXT NOT NULL, PRIMARY KEY (namespace, name)
  ) WITHOUT ROWID;
  CREATE TABLE released_mounts (id INTEGER PRIMARY KEY);
  `,
  `
  CREATE TABLE kept_calls (number INTEGER PRIMARY KEY, call TEXT NOT NULL, kept_ms INTEGER NOT NULL, outcome BLOB NOT NULL);
  `,
];
