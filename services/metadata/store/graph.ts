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
  readonly #putNode: Statement<[string, number, string, number, number, number | null, string | null], number>;
  readonly #removeNode: Statement<[string, number, string]>;
  readonly #removeNamespace: Statement<[string]>;
  readonly #hasNode: Statement<[string, number, string], number>;
  readonly #addEdge: Statement<[number, number, number, string, string | null]>;
  readonly #removeEdges: Statement<[number]>;
  readonly #targets: Statement<[string, number, string, number], Neighbour>;
  readonly #backReferrers: Statement<[number, string, string], Neighbour>;
  #observe: ((touched: Resource) => void) | undefined;

  constructor(database: Database) {
    this.#putNode = database
      .prepare<[string, number, string, number, number, number | null, string | null], number>(
        `INSERT INTO nodes (namespace, kind, key, root, flat, expires_ms, used_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (namespace, kind, key) DO UPDATE SET
           root = excluded.root, flat = excluded.flat, expires_ms = excluded.expires_ms, used_ms = excluded.used_ms
         RETURNING node`,
      )
      .pluck();
    this.#removeNode = database.prepare("DELETE FROM nodes WHERE namespace = ? AND kind = ? AND key = ?");
    this.#removeNamespace = database.prepare("DELETE FROM nodes WHERE namespace = ?");
    this.#hasNode = database
      .prepare<[string, number, string], number>("SELECT 1 FROM nodes WHERE namespace = ? AND kind = ? AND key = ?")
      .pluck();
    this.#addEdge = database.prepare(
      "INSERT INTO edges (source, relation, kind, key, condition) VALUES (?, ?, ?, ?, ?)",
    );
    this.#removeEdges = database.prepare("DELETE FROM edges WHERE source = ?");
    this.#targets = database.prepare(
      `SELECT edges.kind, edges.key FROM nodes JOIN edges ON source = node
       WHERE namespace = ? AND nodes.kind = ? AND nodes.key = ? AND relation != ?`,
    );
    this.#backReferrers = database.prepare(
      `SELECT nodes.kind, nodes.key FROM edges JOIN nodes ON node = source
       WHERE relation = ${Relation.Back} AND edges.kind = ? AND edges.key = ? AND namespace = ?`,
    );
  }

  /** Records what the collector has to know of a resource that was made or changed. */
  put(resource: Resource, facts: ReferenceFacts): void {
    const node = this.#putNode.get(
      resource.namespace,
      resource.kind,
      resource.key,
      facts.root ? 1 : 0,
      facts.flat ? 1 : 0,
      facts.expiresMs ?? null,
      facts.usedMs.length === 0 ? null : facts.usedMs.join(","),
    );
    if (node === undefined) {
      throw new Error("a node was neither made nor found");
    }
    this.#removeEdges.run(node);
    for (const { relation, kind, key, condition } of facts.references) {
      this.#addEdge.run(node, relation, kind, key, condition ?? null);
    }
    this.touch(resource);
  }

  /** Forgets a resource that is gone. References to it stay. */
  remove({ namespace, kind, key }: Resource): void {
    this.#removeNode.run(namespace, kind, key);
  }

  removeNamespace(namespace: string): void {
    this.#removeNamespace.run(namespace);
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
    const held = this.#targets.all(namespace, kind, key, Relation.Back);
    const backReferrers = this.#backReferrers.all(kind, key, namespace);
    return [...held, ...backReferrers].map((neighbour) => ({ namespace, ...neighbour }));
  }
}
