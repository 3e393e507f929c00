import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { migrate } from "#sqlite/migrate.ts";
import { openDatabase } from "#sqlite/open.ts";
import { ResourceKind } from "../domain/resource.ts";
import { openStores } from "../stores.ts";
import { migrations } from "./schema.ts";

test("a database of the first schema keeps its blobs and what refers to what", (context) => {
  const directory = mkdtempSync(join(tmpdir(), "schema-test-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "meta.db");
  const before = openDatabase(path, { durable: false });
  migrate(before, migrations.slice(0, 1));
  before.exec(`
    INSERT INTO blobs (namespace, digest, size, message) VALUES ('n', 'd2', 2, x'02'), ('n', 'd1', 1, x'01');
    INSERT INTO nodes (node, namespace, kind, key, root, flat, expires_ms, used_ms)
      VALUES (7, 'n', 4, 'image', 1, 0, 1.5, NULL), (9, 'n', 1, 'd1', 0, 0, NULL, NULL), (10, 'n', 1, 'd2', 0, 0, NULL, NULL);
    INSERT INTO edges (source, relation, kind, key, condition)
      VALUES (7, 0, 1, 'd1', NULL), (9, 1, 1, 'd2', NULL), (9, 3, 2, 's/k', '<24h'), (10, 2, 4, 'image', NULL);
  `);
  before.close();
  const { records, blobs } = openStores({ path, policy: "shared", durable: false, clock: () => 0n });
  context.after(() => records.database.close());
  assert.deepEqual(blobs.resolve("n", ["d1", "d2", "d3"]), [
    { digest: "d1", size: 1n },
    { digest: "d2", size: 2n },
  ]);
  assert.deepEqual([...blobs.get("n", "d2")], [2]);
  const held = (kind: ResourceKind, key: string): string[] =>
    records.graph.heldBy({ namespace: "n", kind, key }).map((resource) => `${resource.kind} ${resource.key}`);
  assert.deepEqual(held(ResourceKind.Image, "image"), ["1 d1", "1 d2"]);
  assert.deepEqual(held(ResourceKind.Content, "d1"), ["1 d2", "2 s/k"]);
  assert.deepEqual(held(ResourceKind.Content, "d2"), []);
});
