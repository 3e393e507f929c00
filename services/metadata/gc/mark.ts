import { parseDuration } from "#config/duration.ts";
import type { Database } from "#sqlite/open.ts";
import { parseLeaseResource } from "../domain/lease.ts";
import { type GraphNode, ReferenceGraph } from "../domain/reference-graph.ts";
import { Relation } from "../domain/reference-labels.ts";
import { ResourceKind } from "../domain/resource.ts";
import { type Pause, runInSlices } from "./slices.ts";

/** Most rows that one slice reads. */
export const rowsPerSliceMax = 500;

/** What nothing holds alive, at the time of the state that was looked at. */
export interface Unreferenced {
  readonly graph: ReferenceGraph;
  /** Groups in the order in which they can be removed; see `ReferenceGraph.orderUnreached`. */
  readonly groups: readonly (readonly GraphNode[])[];
}

interface NodeRow {
  readonly node: number;
  readonly namespace: string;
  readonly kind: ResourceKind;
  readonly key: string;
  readonly root: number;
  readonly flat: number;
  readonly expires_ms: number | null;
  readonly used_ms: string | null;
}

interface EdgeRow {
  readonly edge: number;
  readonly source: number;
  readonly relation: Relation;
  readonly kind: ResourceKind;
  readonly key: string;
  readonly condition: string | null;
}

interface LeaseResourceRow {
  readonly rowid: number;
  readonly namespace: string;
  readonly lease: string;
  readonly type: string;
  readonly id: string;
}

/** Kinds that are kept as long as their client does not remove them. */
const neverCollected = new Set<ResourceKind>([ResourceKind.Container, ResourceKind.Sandbox]);

/**
 * Finds what nothing holds alive.
 *
 * @param reader - Keeps seeing one state; the caller closes it.
 * @param nowMs - Decides what has expired.
 * @param pause - Called after every slice of at most {@link rowsPerSliceMax} rows or a few thousand steps.
 * @source containerd v2.3.4 core/metadata/gc.go `scanRoots`, `references`, `scanAll`
 */
export async function findUnreferenced(reader: Database, nowMs: number, pause: Pause): Promise<Unreferenced> {
  const graph = new ReferenceGraph();
  const loaded = new LoadedNodes(graph, nowMs);
  await readInSlices<NodeRow>(reader, "nodes", "node", pause, (row) => loaded.addNode(row));
  await readInSlices<EdgeRow>(reader, "edges", "edge", pause, (row) => loaded.addEdge(row));
  await readInSlices<LeaseResourceRow>(reader, "lease_resources", "rowid", pause, (row) =>
    loaded.addLeaseResource(row),
  );
  await runInSlices(graph.mark(), pause);
  return { graph, groups: await runInSlices(graph.orderUnreached(), pause) };
}

async function readInSlices<R extends object>(
  reader: Database,
  table: "nodes" | "edges" | "lease_resources",
  number: string & keyof R,
  pause: Pause,
  add: (row: R) => void,
): Promise<void> {
  const slice = reader.prepare<[number, number], R>(
    `SELECT ${number}, * FROM ${table} WHERE ${number} > ? ORDER BY ${number} LIMIT ?`,
  );
  let rows = slice.all(0, rowsPerSliceMax);
  for (let last = rows.at(-1); last !== undefined; last = rows.at(-1)) {
    for (const row of rows) {
      add(row);
    }
    await pause();
    rows = slice.all(Number(last[number]), rowsPerSliceMax);
  }
}

/** Puts the rows into a graph as they come in: nodes first, then edges, then what leases hold. */
class LoadedNodes {
  readonly #graph: ReferenceGraph;
  readonly #nowMs: number;
  readonly #sources = new Map<number, { readonly node: GraphNode; readonly namespace: string }>();
  readonly #usedMs = new Map<GraphNode, readonly number[]>();
  readonly #leases = new Map<GraphNode, { readonly flat: boolean }>();

  constructor(graph: ReferenceGraph, nowMs: number) {
    this.#graph = graph;
    this.#nowMs = nowMs;
  }

  addNode(row: NodeRow): void {
    const node = this.#graph.node(row.namespace, row.kind, row.key);
    this.#sources.set(row.node, { node, namespace: row.namespace });
    if (!neverCollected.has(row.kind)) {
      this.#graph.addExisting(node);
    }
    if (row.used_ms !== null) {
      this.#usedMs.set(node, row.used_ms.split(",").map(Number));
    }
    if (row.root === 1 && (row.expires_ms === null || this.#nowMs <= row.expires_ms)) {
      this.#graph.addRoot(node);
      if (row.kind === ResourceKind.Lease) {
        this.#leases.set(node, { flat: row.flat === 1 });
      }
    }
  }

  addEdge(row: EdgeRow): void {
    const source = this.#sources.get(row.source);
    if (source === undefined) {
      return;
    }
    const target = this.#graph.node(source.namespace, row.kind, row.key);
    if (row.relation === Relation.Back) {
      this.#graph.addEdge(target, source.node, { structural: false });
    } else if (row.relation !== Relation.Conditional || this.#holds(row.condition ?? "", target)) {
      this.#graph.addEdge(source.node, target, { structural: row.relation === Relation.Structural });
    }
  }

  addLeaseResource({ namespace, lease, type, id }: LeaseResourceRow): void {
    const node = this.#graph.findNode({ namespace, kind: ResourceKind.Lease, key: lease });
    const held = node === undefined ? undefined : this.#leases.get(node);
    if (held !== undefined) {
      const { kind, key } = parseLeaseResource(namespace, { type, id });
      this.#graph.addRoot(this.#graph.node(namespace, kind, key), held);
    }
  }

  /** Tells whether the target was used as a condition such as `<24h` asks. */
  #holds(condition: string, target: GraphNode): boolean {
    const limitMs = findDurationMs(condition.slice(1));
    return (
      limitMs !== undefined &&
      (this.#usedMs.get(target) ?? []).some((usedMs) => {
        const agoMs = this.#nowMs - usedMs;
        return condition.startsWith("<") ? agoMs < limitMs : agoMs > limitMs;
      })
    );
  }
}

function findDurationMs(text: string): number | undefined {
  try {
    return parseDuration(text);
  } catch {
    return undefined;
  }
}
