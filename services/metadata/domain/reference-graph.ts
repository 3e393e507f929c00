import type { Resource, ResourceKind } from "./resource.ts";

/** A resource in a graph, by the order in which it came in. */
export type GraphNode = number;

const reachedWhole = 1;
const reachedFlat = 2;

/** How much work a slice does at most, in nodes and edges looked at. */
export const stepsPerSliceMax = 4_000;

/**
 * The references of all namespaces, to find what nothing holds alive.
 *
 * Walks over it are generators that hand control back after at most {@link stepsPerSliceMax} steps, so that a walk over a graph
 * of any size keeps nobody waiting. A resource may be in the graph although it does not exist, since something refers to it.
 */
export class ReferenceGraph {
  readonly #nodes = new Map<string, GraphNode>();
  readonly #resources: Resource[] = [];
  readonly #edges: (number[] | undefined)[] = [];
  readonly #existing = new Set<GraphNode>();
  readonly #roots: { readonly node: GraphNode; readonly flat: boolean }[] = [];
  #reached = new Uint8Array(0);

  /** The node of a resource, made when it is new. */
  node(namespace: string, kind: ResourceKind, key: string): GraphNode {
    const name = nodeName(namespace, kind, key);
    let node = this.#nodes.get(name);
    if (node === undefined) {
      node = this.#resources.length;
      this.#nodes.set(name, node);
      this.#resources.push({ namespace, kind, key });
    }
    return node;
  }

  /** The node of a resource, if there is one. */
  findNode({ namespace, kind, key }: Resource): GraphNode | undefined {
    return this.#nodes.get(nodeName(namespace, kind, key));
  }

  resource(node: GraphNode): Resource {
    const resource = this.#resources[node];
    if (resource === undefined) {
      throw new RangeError(`no node ${node}`);
    }
    return resource;
  }

  /** Says that a resource exists, and so may have to be removed. */
  addExisting(node: GraphNode): void {
    this.#existing.add(node);
  }

  /** Says that a resource is kept for its own sake; flat: without what its labels refer to. */
  addRoot(node: GraphNode, { flat = false } = {}): void {
    this.#roots.push({ node, flat });
  }

  /** Says that one resource holds another alive; structural: even if it is itself held flat. */
  addEdge(from: GraphNode, to: GraphNode, { structural }: { readonly structural: boolean }): void {
    this.#edges[from] ??= [];
    this.#edges[from].push(to * 2 + (structural ? 1 : 0));
  }

  /** Finds all that the roots reach. */
  *mark(): Generator<undefined, void> {
    this.#reached = new Uint8Array(this.#resources.length);
    const pending: number[] = [];
    const reach = (node: GraphNode, flag: number): void => {
      const seen = this.#reached[node] ?? 0;
      if ((seen & flag) === 0) {
        this.#reached[node] = seen | flag;
        pending.push(node * 2 + (flag === reachedFlat ? 1 : 0));
      }
    };
    let steps = 0;
    for (const { node, flat } of this.#roots) {
      reach(node, flat ? reachedFlat : reachedWhole);
      if (++steps % stepsPerSliceMax === 0) {
        yield;
      }
    }
    for (let entry = pending.pop(); entry !== undefined; entry = pending.pop()) {
      const flat = entry % 2 === 1;
      for (const edge of this.#edges[entry >> 1] ?? []) {
        const structural = edge % 2 === 1;
        if (!flat || structural) {
          reach(edge >> 1, flat ? reachedFlat : reachedWhole);
        }
        if (++steps % stepsPerSliceMax === 0) {
          yield;
        }
      }
      if (++steps % stepsPerSliceMax === 0) {
        yield;
      }
    }
  }

  /** Tells whether {@link mark} reached a node. */
  isReached(node: GraphNode): boolean {
    return (this.#reached[node] ?? 0) !== 0;
  }

  /**
   * The existing resources that {@link mark} did not reach, in the order in which they can be removed: what refers comes before what it
   * refers to, and resources that refer to each other in a circle form one group. So whatever of it still exists, all that it
   * refers to exists too.
   *
   * Of those that could come in any order, the one that was said to exist first comes first, so that who loads the graph in the order
   * of the database removes from neighbouring pages.
   */
  *orderUnreached(): Generator<undefined, GraphNode[][]> {
    const circles = yield* this.#findCircles();
    const depths = yield* this.#findDepths(circles);
    const levels: GraphNode[][][] = [];
    const told = new Set<number>();
    let steps = 0;
    for (const node of this.#existing) {
      const circle = circles.of.get(node);
      if (circle !== undefined && !told.has(circle)) {
        told.add(circle);
        const level = depths[circle] ?? 0;
        levels[level] ??= [];
        levels[level].push((circles.members[circle] ?? []).filter((member) => this.#existing.has(member)));
      }
      if (++steps % stepsPerSliceMax === 0) {
        yield;
      }
    }
    return levels.flat();
  }

  /** The longest way that leads to each circle from one that nothing leads to. */
  *#findDepths({ members, of }: Circles): Generator<undefined, Int32Array> {
    const depths = new Int32Array(members.length);
    let steps = 0;
    for (let circle = members.length - 1; circle >= 0; circle -= 1) {
      const depth = (depths[circle] ?? 0) + 1;
      for (const member of members[circle] ?? []) {
        for (const edge of this.#edges[member] ?? []) {
          const target = of.get(edge >> 1);
          if (target !== undefined && target !== circle) {
            depths[target] = Math.max(depths[target] ?? 0, depth);
          }
          if (++steps % stepsPerSliceMax === 0) {
            yield;
          }
        }
        if (++steps % stepsPerSliceMax === 0) {
          yield;
        }
      }
    }
    return depths;
  }

  /**
   * The resources that {@link mark} did not reach, by the circles in which they refer to each other; what is in none is one by itself.
   * A circle comes after all that it refers to.
   *
   * @source Tarjan, Depth-first search and linear graph algorithms, 1972: strongly connected components
   */
  *#findCircles(): Generator<undefined, Circles> {
    const members: GraphNode[][] = [];
    const of = new Map<GraphNode, number>();
    const indices = new Map<GraphNode, number>();
    const lowest = new Map<GraphNode, number>();
    const open: GraphNode[] = [];
    let steps = 0;
    for (const start of this.#existing) {
      const path: { readonly node: GraphNode; next: number }[] = [];
      const enter = (node: GraphNode): void => {
        lowest.set(node, indices.size);
        indices.set(node, indices.size);
        open.push(node);
        path.push({ node, next: 0 });
      };
      if (!this.isReached(start) && !indices.has(start)) {
        enter(start);
      }
      for (let visit = path.at(-1); visit !== undefined; visit = path.at(-1)) {
        const edge = this.#edges[visit.node]?.[visit.next];
        if (edge === undefined) {
          path.pop();
          const low = lowest.get(visit.node) ?? 0;
          const above = path.at(-1);
          if (above !== undefined) {
            lowest.set(above.node, Math.min(lowest.get(above.node) ?? 0, low));
          }
          if (low === indices.get(visit.node)) {
            const circle = open.splice(open.lastIndexOf(visit.node));
            for (const member of circle) {
              of.set(member, members.length);
            }
            members.push(circle);
          }
        } else {
          visit.next += 1;
          const target = edge >> 1;
          if (!indices.has(target)) {
            if (!this.isReached(target)) {
              enter(target);
            }
          } else if (!of.has(target)) {
            lowest.set(visit.node, Math.min(lowest.get(visit.node) ?? 0, indices.get(target) ?? 0));
          }
        }
        if (++steps % stepsPerSliceMax === 0) {
          yield;
        }
      }
      if (++steps % stepsPerSliceMax === 0) {
        yield;
      }
    }
    return { members, of };
  }
}

/** Resources by the circles in which they refer to each other. */
interface Circles {
  readonly members: readonly (readonly GraphNode[])[];
  /** The circle that a resource is in. */
  readonly of: ReadonlyMap<GraphNode, number>;
}

function nodeName(namespace: string, kind: ResourceKind, key: string): string {
  return `${kind} ${namespace} ${key}`;
}
