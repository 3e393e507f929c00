import type { Database, Statement } from "#sqlite/open.ts";
import { type ReferenceFacts, Relation } from "../domain/reference-labels.ts";
import type { Resource, ResourceKind } from "../domain/resource.ts";

/** A reference as it is stored, with the resource that it leads to or, backwards, comes from. */
interface Neighbour {
  readonly kind: ResourceKind;
  readonly key: string;
}

/** What the collector follows: resources and their references, changed together with the records that they are read from. */
export class GraphStore {
  readonly #putNode: Statement<[string, number, string, number, number, number | null, string | null]>;
  readonly #removeNode: Statement<[string, number, string]>;
  readonly #removeNamespace: readonly Statement<[string]>[];
  readonly #hasNode: Statement<[string, number, string], number>;
  readonly #addEdge: Statement<[string, number, string, number, number, number, string, string | null]>;
  readonly #removeEdges: Statement<[string, number, string]>;
  readonly #targets: Statement<[string, number, string], Neighbour>;
  readonly #backReferrers: Statement<[string, number, string], Neighbour>;
  #observe: ((touched: Resource) => void) | undefined;

  constructor(database: Database) {
    this.#putNode = database.prepare(
      `INSERT INTO nodes (namespace, kind, key, root, flat, expires_ms, used_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (namespace, kind, key) DO UPDATE SET
         root = excluded.root, flat = excluded.flat, expires_ms = excluded.expires_ms, used_ms = excluded.used_ms`,
    );
    this.#removeNode = database.prepare("DELETE FROM nodes WHERE namespace = ? AND kind = ? AND key = ?");
    this.#removeNamespace = ["edges", "nodes"].map((table) =>
      database.prepare(`DELETE FROM ${table} WHERE namespace = ?`),
    );
    this.#hasNode = database
      .prepare<[string, number, string], number>("SELECT 1 FROM nodes WHERE namespace = ? AND kind = ? AND key = ?")
      .pluck();
    this.#addEdge = database.prepare(
      `INSERT INTO edges (namespace, source_kind, source, number, relation, kind, key, condition)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    this.#removeEdges = database.prepare("DELETE FROM edges WHERE namespace = ? AND source_kind = ? AND source = ?");
    this.#targets = database.prepare(
      `SELECT kind, key FROM edges
       WHERE namespace = ? AND source_kind = ? AND source = ? AND relation != ${Relation.Back}`,
    );
    this.#backReferrers = database.prepare(
      `SELECT source_kind AS kind, source AS key FROM edges
       WHERE relation = ${Relation.Back} AND namespace = ? AND kind = ? AND key = ?`,
    );
  }

  /** Records what the collector has to know of a resource that was made or changed. */
  put(resource: Resource, facts: ReferenceFacts): void {
    const { namespace, kind, key } = resource;
    this.#putNode.run(
      namespace,
      kind,
      key,
      facts.root ? 1 : 0,
      facts.flat ? 1 : 0,
      facts.expiresMs ?? null,
      facts.usedMs.length === 0 ? null : facts.usedMs.join(","),
    );
    this.#removeEdges.run(namespace, kind, key);
    for (const [number, edge] of facts.references.entries()) {
      this.#addEdge.run(namespace, kind, key, number, edge.relation, edge.kind, edge.key, edge.condition ?? null);
    }
    this.touch(resource);
  }

  /** Forgets a resource that is gone. References to it stay. */
  remove({ namespace, kind, key }: Resource): void {
    this.#removeEdges.run(namespace, kind, key);
    this.#removeNode.run(namespace, kind, key);
  }

  removeNamespace(namespace: string): void {
    for (const statement of this.#removeNamespace) {
      statement.run(namespace);
    }
  }

  has({ namespace, kind, key }: Resource): boolean {
    return this.#hasNode.get(namespace, kind, key) !== undefined;
  }

  /** Says that something holds a resource alive from now on, such as a lease. */
  touch(resource: Resource): void {
    this.#observe?.(resource);
  }

  /** Has every resource reported that is made, changed or held from now on, until the observer is taken away. */
  observe(observer: ((touched: Resource) => void) | undefined): void {
    this.#observe = observer;
  }

  /** The resources that one holds alive, if it is alive itself; conditional references count as if their condition held. */
  heldBy({ namespace, kind, key }: Resource): Resource[] {
    const held = this.#targets.all(namespace, kind, key);
    const backReferrers = this.#backReferrers.all(namespace, kind, key);
    return [...held, ...backReferrers].map((neighbour) => ({ namespace, ...neighbour }));
  }
}
