import { parseDuration } from "#base/duration.ts";
import type { Database } from "#sqlite/open.ts";
import { readLeaseResource } from "../domain/lease.ts";
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
  readonly namespace: string;
  readonly kind: ResourceKind;
  readonly key: string;
  readonly root: number;
  readonly flat: number;
  readonly expires_ms: number | null;
  readonly used_ms: string | null;
}

interface EdgeRow {
  readonly namespace: string;
  readonly source_kind: ResourceKind;
  readonly source: string;
  readonly relation: Relation;
  readonly kind: ResourceKind;
  readonly key: string;
  readonly condition: string | null;
}

interface LeaseResourceRow {
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
  const read = <R>(from: string): IterableIterator<R> => reader.prepare<[], R>(`SELECT * FROM ${from}`).iterate();
  // Nodes in the order of their table, so that they are removed in this order; see `ReferenceGraph.orderUnreached`.
  await addInSlices(read<NodeRow>("nodes ORDER BY namespace, kind, key"), (row) => loaded.addNode(row), pause);
  await addInSlices(read<EdgeRow>("edges"), (row) => loaded.addEdge(row), pause);
  await addInSlices(read<LeaseResourceRow>("lease_resources"), (row) => loaded.addLeaseResource(row), pause);
  await runInSlices(graph.mark(), pause);
  return { graph, groups: await runInSlices(graph.orderUnreached(), pause) };
}

async function addInSlices<R>(rows: Iterable<R>, add: (row: R) => void, pause: Pause): Promise<void> {
  let added = 0;
  for (const row of rows) {
    add(row);
    added += 1;
    if (added % rowsPerSliceMax === 0) {
      await pause();
    }
  }
  await pause();
}

/** Puts the rows into a graph as they come in: nodes first, then edges, then what leases hold. */
class LoadedNodes {
  readonly #graph: ReferenceGraph;
  readonly #nowMs: number;
  readonly #usedMs = new Map<GraphNode, readonly number[]>();
  readonly #leases = new Map<GraphNode, { readonly flat: boolean }>();

  constructor(graph: ReferenceGraph, nowMs: number) {
    this.#graph = graph;
    this.#nowMs = nowMs;
  }

  addNode(row: NodeRow): void {
    const node = this.#graph.node(row.namespace, row.kind, row.key);
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

  addEdge({ namespace, source_kind, source, relation, kind, key, condition }: EdgeRow): void {
    const from = this.#graph.node(namespace, source_kind, source);
    const target = this.#graph.node(namespace, kind, key);
    if (relation === Relation.Back) {
      this.#graph.addEdge(target, from, { structural: false });
    } else if (relation !== Relation.Conditional || this.#holds(condition ?? "", target)) {
      this.#graph.addEdge(from, target, { structural: relation === Relation.Structural });
    }
  }

  addLeaseResource({ namespace, lease, type, id }: LeaseResourceRow): void {
    const node = this.#graph.findNode({ namespace, kind: ResourceKind.Lease, key: lease });
    const held = node === undefined ? undefined : this.#leases.get(node);
    if (held !== undefined) {
      const { kind, key } = readLeaseResource(namespace, { type, id });
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
