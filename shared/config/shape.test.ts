import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { mergeShaped, shapeValue } from "./shape.ts";
import { mergeTables } from "./toml-table.ts";

const shape = {
  fields: {
    name: "string",
    count: "integer",
    enabled: "boolean",
    list: "strings",
    inner: { fields: { name: "string" } },
    replaced: { each: { fields: { path: "string", env: "strings" } } },
    plugins: "tables",
  },
} as const;

const name = fc.constantFrom("a", "b", "c", "toString");
const scalar = fc.oneof(fc.constantFrom("", "x", "y"), fc.integer({ min: 0, max: 2 }), fc.boolean());
const tree = fc.letrec<{ table: Record<string, unknown>; value: unknown }>((tie) => ({
  table: fc.dictionary(name, tie("value"), { maxKeys: 3, noNullPrototype: true }),
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    scalar,
    fc.array(scalar, { maxLength: 2 }),
    tie("table"),
  ),
})).table;
const list = fc.uniqueArray(fc.constantFrom("a", "b", "c"));
const value = fc.record(
  {
    name: fc.constantFrom("", "x", "y"),
    count: fc.integer({ min: 0, max: 2 }),
    enabled: fc.boolean(),
    list,
    inner: fc.record({ name: fc.constantFrom("", "x") }, { requiredKeys: [], noNullPrototype: true }),
    replaced: fc.dictionary(
      name,
      fc.record({ path: fc.constantFrom("", "p", "q"), env: list }, { requiredKeys: [], noNullPrototype: true }),
      { noNullPrototype: true },
    ),
    plugins: fc.dictionary(name, tree, { maxKeys: 3, noNullPrototype: true }),
  },
  { requiredKeys: [], noNullPrototype: true },
);

/** What merging gives, or that it is refused; which of several conflicts is told first does not matter. */
function merge<T>(older: T | "refused", newer: T | "refused"): T | "refused" {
  if (older === "refused" || newer === "refused") {
    return "refused";
  }
  try {
    return mergeShaped(shape, older, newer);
  } catch (error) {
    assert.match(String(error), /: expected .+ as in the files before, got /);
    return "refused";
  }
}

test("merging a file once more changes nothing", () => {
  fc.assert(
    fc.property(value, value, (older, newer) => {
      const once = merge(older, newer);
      assert.deepEqual(merge(once, newer), once);
      assert.deepEqual(merge(older, older), older);
    }),
  );
});

test("an empty file changes nothing, before or after", () => {
  fc.assert(
    fc.property(value, (file) => {
      assert.deepEqual(merge(file, {}), file);
      assert.deepEqual(merge({}, file), file);
    }),
  );
});

test("merging is associative, so that imports of imports mean what they say", () => {
  fc.assert(
    fc.property(value, value, value, (a, b, c) => {
      assert.deepEqual(merge(merge(a, b), c), merge(a, merge(b, c)));
    }),
  );
});

test("a table and what is none do not merge, whichever files are merged first", () => {
  const [a, b, c] = [{ b: { a: "" } }, { b: "" }, { b: {} }].map((table) => ({ plugins: { p: table } }));
  for (const [older, newer] of [
    [a, b],
    [b, c],
    [b, a],
  ]) {
    assert.throws(
      () => mergeShaped<unknown>(shape, older, newer),
      /^Error: plugins\.p\.b: expected .+ as in the files before/,
    );
  }
  assert.throws(() => mergeTables({ b: { a: 1 } }, { b: [] }, ["x.y"]), {
    message: '"x.y".b: expected a table as in the files before, got an array',
  });
  assert.deepEqual(mergeShaped<unknown>(shape, a, c), a);
});

test("tables merge by key at every depth", () => {
  fc.assert(
    fc.property(tree, tree, (older, newer) => {
      const outcome = merge({ plugins: older }, { plugins: newer });
      fc.pre(outcome !== "refused");
      const { plugins: merged } = outcome;
      assert.deepEqual(new Set(Object.keys(merged)), new Set([...Object.keys(older), ...Object.keys(newer)]));
      for (const key of Object.keys(older).filter((key) => !Object.hasOwn(newer, key))) {
        assert.deepEqual(merged[key], older[key]);
      }
    }),
  );
});

test("each kind of value merges by its own rule", () => {
  const older = {
    name: "x",
    count: 1,
    enabled: true,
    list: ["a", "b"],
    replaced: { p: { path: "/bin/p", env: ["A=1"] }, q: { path: "/bin/q" } },
    plugins: { "t.i": { size: 1, names: ["a"], deep: { kept: true } } },
  };
  const newer = {
    name: "",
    count: 0,
    enabled: false,
    list: ["b", "c"],
    replaced: { p: { path: "/bin/other" } },
    plugins: { "t.i": { size: 0, names: ["b"], deep: { added: 1 } } },
  };
  assert.deepEqual(mergeShaped<unknown>(shape, older, newer), {
    name: "x",
    count: 1,
    enabled: true,
    list: ["a", "b", "c"],
    replaced: { p: { path: "/bin/other" }, q: { path: "/bin/q" } },
    plugins: { "t.i": { size: 0, names: ["b"], deep: { kept: true, added: 1 } } },
  });
});

test("values of the wrong type are refused with their key", () => {
  const refusals: [unknown, string][] = [
    [{ name: 5 }, "name: expected a string, got an integer"],
    [{ count: "5" }, "count: expected an integer, got a string"],
    [{ count: 1.5 }, "count: expected an integer, got a float"],
    [{ count: 2n ** 62n }, "count: expected an integer, got an integer out of range"],
    [{ enabled: "yes" }, "enabled: expected a boolean, got a string"],
    [{ list: "a" }, "list: expected an array of strings, got a string"],
    [{ list: ["a", 1] }, "list: expected an array of strings, got an array"],
    [{ inner: [] }, "inner: expected a table, got an array"],
    [{ replaced: { "a.b": { path: new Date() } } }, 'replaced."a.b".path: expected a string, got a date'],
    [{ plugins: { "io.x": true } }, 'plugins."io.x": expected a table, got a boolean'],
  ];
  for (const [written, message] of refusals) {
    assert.throws(() => shapeValue(shape, written, () => undefined), { message });
  }
});

test("unknown keys are named and left out", () => {
  const unknown: string[] = [];
  const written = {
    name: "x",
    bogus: 1,
    inner: { typo: 2 },
    replaced: { p: { pth: "/" } },
    plugins: { any: { key: 1 } },
  };
  const shaped = shapeValue(shape, written, (path) => unknown.push(path.join("/")));
  assert.deepEqual(unknown, ["bogus", "inner/typo", "replaced/p/pth"]);
  assert.deepEqual(shaped, { name: "x", inner: {}, replaced: { p: {} }, plugins: { any: { key: 1 } } });
});
