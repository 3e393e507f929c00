import type { GraphNode, ReferenceGraph } from "../domain/reference-graph.ts";
import type { Resource } from "../domain/resource.ts";
import type { GraphStore } from "../store/graph.ts";

/**
 * Keeps what is made, changed or held while a collection runs, and all that it refers to.
 *
 * Marking looks at the state of its beginning. Whoever makes a reference after that writes a record or a lease, and everything
 * that was written counts as alive until the next collection. What was not written refers to the same things as at the beginning.
 */
export class WriteBarrier implements Disposable {
  readonly #store: GraphStore;
  readonly #touched: Resource[] = [];
  readonly #kept = new Set<GraphNode>();

  /** Observes from now on, until disposed of. */
  constructor(store: GraphStore) {
    this.#store = store;
    store.observe((resource) => this.#touched.push(resource));
  }

  [Symbol.dispose](): void {
    this.#store.observe(undefined);
  }

  /** Tells whether a node must stay although marking did not reach it; as of the last {@link spread}. */
  keeps(node: GraphNode): boolean {
    return this.#kept.has(node);
  }

  /**
   * Works off what was written since the last time, inside a change.
   *
   * Cost: a few reads for each record that was written and each unreached one that it refers to.
   */
  spread(graph: ReferenceGraph): void {
    for (let resource = this.#touched.pop(); resource !== undefined; resource = this.#touched.pop()) {
      this.#keep(resource, graph);
      const pending = this.#store.heldBy(resource);
      for (let held = pending.pop(); held !== undefined; held = pending.pop()) {
        if (this.#keep(held, graph)) {
          pending.push(...this.#store.heldBy(held));
        }
      }
    }
  }

  /** @returns Whether the resource is kept only since now. */
  #keep(resource: Resource, graph: ReferenceGraph): boolean {
    const node = graph.node(resource.namespace, resource.kind, resource.key);
    if (graph.isReached(node) || this.#kept.has(node)) {
      return false;
    }
    this.#kept.add(node);
    return true;
  }
}
