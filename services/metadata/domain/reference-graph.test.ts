import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { type GraphNode, ReferenceGraph, stepsPerSliceMax } from "./reference-graph.ts";
import { ResourceKind } from "./resource.ts";

interface Drawing {
  readonly nodes: number;
  readonly edges: readonly { readonly from: number; readonly to: number; readonly structural: boolean }[];
  readonly roots: readonly { readonly node: number; readonly flat: boolean }[];
}

function draw({ nodes, edges, roots }: Drawing): ReferenceGraph {
  const graph = new ReferenceGraph();
  for (let node = 0; node < nodes; node += 1) {
    graph.addExisting(graph.node("ns", ResourceKind.Content, String(node)));
  }
  for (const { from, to, structural } of edges) {
    graph.addEdge(from, to, { structural });
  }
  for (const { node, flat } of roots) {
    graph.addRoot(node, { flat });
  }
  return graph;
}

function run<T>(walk: Generator<undefined, T>): { readonly value: T; readonly pauses: number } {
  for (let pauses = 0; ; pauses += 1) {
    const step = walk.next();
    if (step.done === true) {
      return { value: step.value, pauses };
    }
  }
}

/** Follows references until nothing new is found, the slow and obvious way. */
function reachable({ edges, roots }: Drawing): Set<number> {
  const states = new Set(roots.map(({ node, flat }) => `${node} ${flat}`));
  for (let before = -1; before !== states.size; ) {
    before = states.size;
    for (const { from, to, structural } of edges) {
      if (states.has(`${from} false`)) {
        states.add(`${to} false`);
      }
      if (structural && states.has(`${from} true`)) {
        states.add(`${to} true`);
      }
    }
  }
  return new Set([...states].map((state) => Number(state.split(" ")[0])));
}

const drawing = fc.integer({ min: 1, max: 12 }).chain((nodes) => {
  const node = fc.integer({ min: 0, max: nodes - 1 });
  return fc.record({
    nodes: fc.constant(nodes),
    edges: fc.array(fc.record({ from: node, to: node, structural: fc.boolean() }), { maxLength: 20 }),
    roots: fc.array(fc.record({ node, flat: fc.boolean() }), { maxLength: 3 }),
  });
});

test("marking reaches what the roots hold, and nothing else", () => {
  fc.assert(
    fc.property(drawing, (drawn) => {
      const graph = draw(drawn);
      run(graph.mark());
      const expected = reachable(drawn);
      for (let node = 0; node < drawn.nodes; node += 1) {
        assert.equal(graph.isReached(node), expected.has(node), `node ${node}`);
      }
    }),
  );
});

test("what is left is ordered so that references come before what they lead to", () => {
  fc.assert(
    fc.property(drawing, (drawn) => {
      const graph = draw(drawn);
      run(graph.mark());
      const groups = run(graph.orderUnreached()).value;
      const groupOf = new Map<GraphNode, number>();
      for (const [index, group] of groups.entries()) {
        for (const node of group) {
          assert.equal(groupOf.has(node), false, "a node comes once");
          groupOf.set(node, index);
        }
      }
      const left = Array.from({ length: drawn.nodes }, (_, node) => node).filter((node) => !graph.isReached(node));
      assert.deepEqual(
        [...groupOf.keys()].sort((a, b) => a - b),
        left,
      );
      for (const { from, to } of drawn.edges) {
        const [fromGroup, toGroup] = [groupOf.get(from), groupOf.get(to)];
        if (fromGroup !== undefined && toGroup !== undefined) {
          assert.ok(fromGroup <= toGroup, `${from} refers to ${to}`);
        }
      }
      for (const group of groups) {
        const [first = 0] = group;
        for (const node of group) {
          const fromFirst = reachable({ ...drawn, roots: [{ node: first, flat: false }] });
          const fromNode = reachable({ ...drawn, roots: [{ node, flat: false }] });
          assert.ok(fromFirst.has(node) && fromNode.has(first), "a group is a circle");
        }
      }
    }),
  );
});

test("what does not exist leads on but need not be removed", () => {
  const graph = new ReferenceGraph();
  const [top, missing, bottom] = ["top", "missing", "bottom"].map((key) => graph.node("ns", ResourceKind.Content, key));
  assert.ok(top !== undefined && missing !== undefined && bottom !== undefined);
  graph.addExisting(top);
  graph.addExisting(bottom);
  graph.addEdge(top, missing, { structural: false });
  graph.addEdge(missing, bottom, { structural: false });
  run(graph.mark());
  assert.deepEqual(run(graph.orderUnreached()).value, [[top], [bottom]]);
  graph.addRoot(top);
  run(graph.mark());
  assert.deepEqual(run(graph.orderUnreached()).value, []);
});

test("what could go in any order goes in the order in which it was said to exist", () => {
  const graph = new ReferenceGraph();
  const [last, first, held, holder, middle] = ["last", "first", "held", "holder", "middle"].map((key) =>
    graph.node("ns", ResourceKind.Content, key),
  );
  assert.ok(
    first !== undefined && middle !== undefined && last !== undefined && held !== undefined && holder !== undefined,
  );
  for (const node of [first, held, middle, holder, last]) {
    graph.addExisting(node);
  }
  graph.addEdge(holder, held, { structural: false });
  run(graph.mark());
  assert.deepEqual(run(graph.orderUnreached()).value, [[first], [middle], [holder], [last], [held]]);
});

test("walks over a large graph stop often", () => {
  const nodes = 50_000;
  const edges = Array.from({ length: nodes - 1 }, (_, from) => ({ from, to: from + 1, structural: false }));
  const marked = draw({ nodes, edges, roots: [{ node: 0, flat: false }] });
  assert.ok(run(marked.mark()).pauses >= Math.floor((2 * nodes) / stepsPerSliceMax) - 1);
  const unmarked = draw({ nodes, edges, roots: [] });
  run(unmarked.mark());
  const ordered = run(unmarked.orderUnreached());
  assert.equal(ordered.value.length, nodes);
  assert.ok(ordered.pauses >= Math.floor((2 * nodes) / stepsPerSliceMax) - 1);
});
