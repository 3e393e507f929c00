import assert from "node:assert/strict";
import test from "node:test";
import { completeTables, knownTables } from "./plugin-tables.ts";
import { testPlugins } from "./test-plugins.ts";

const runtime = "io.containerd.cri.v1.runtime";
const scheduler = "io.containerd.gc.v1.scheduler";
const tracing = "io.containerd.internal.v1.tracing";

test("what no plugin knows is left out and told once, at every depth", () => {
  const warnings: string[] = [];
  const known = knownTables(
    {
      [scheduler]: { pause_threshold: 1, pause_treshold: 2 },
      [runtime]: {
        no_pivot: true,
        containerd: {
          runtimes: { kata: { runtime_type: "k", runtime_root: "/", options: { Any: { thing: 1 } } } },
          untrusted: { runtime_type: "x" },
        },
        auth: { user: "u", word: "w" },
        unpack: [{ platform: "p", snap: "s" }, { types: [] }],
      },
      "of.somebody.else.v1.x": { anything: { at: "all" } },
    },
    testPlugins,
    (warning) => warnings.push(warning),
  );
  assert.deepEqual(known, {
    [scheduler]: { pause_threshold: 1 },
    [runtime]: {
      containerd: { runtimes: { kata: { runtime_type: "k", options: { Any: { thing: 1 } } } } },
      auth: { user: "u" },
      unpack: [{ platform: "p" }, { types: [] }],
    },
    "of.somebody.else.v1.x": { anything: { at: "all" } },
  });
  assert.deepEqual(
    warnings.map((warning) => warning.replace("Ignoring unknown key in TOML for plugin: ", "")),
    [
      `${scheduler}: pause_treshold`,
      `${runtime}: no_pivot`,
      `${runtime}: containerd.runtimes.kata.runtime_root`,
      `${runtime}: containerd.untrusted`,
      `${runtime}: auth.word`,
      `${runtime}: unpack.snap`,
    ],
  );
});

test("keys that every object has are unknown like others", () => {
  const warnings: string[] = [];
  const table = JSON.parse('{"toString": 1, "constructor": {"a": 1}}') as Record<string, unknown>;
  assert.deepEqual(
    knownTables({ [scheduler]: table, toString: { a: 1 } }, testPlugins, (text) => warnings.push(text)),
    {
      [scheduler]: {},
      toString: { a: 1 },
    },
  );
  assert.equal(warnings.length, 2);
});

test("tables are laid over defaults in the order of the manifest", () => {
  const complete = completeTables({ [scheduler]: { startup_delay: "90s", deletion_threshold: 0 } }, testPlugins);
  assert.deepEqual(Object.entries(complete[scheduler] ?? {}), [
    ["pause_threshold", 0.02],
    ["deletion_threshold", 0],
    ["mutation_threshold", 100],
    ["schedule_delay", "0s"],
    ["startup_delay", "1m30s"],
  ]);
});

test("names are filled up, laid over those that stand among the defaults, and sorted", () => {
  const written = { containerd: { runtimes: { runc: { options: { Root: "/r", New: { z: 1, a: 2 } } }, kata: {} } } };
  const { [runtime]: table } = completeTables({ [runtime]: written }, testPlugins);
  assert.equal(
    JSON.stringify(table),
    JSON.stringify({
      containerd: {
        runtimes: {
          kata: { runtime_type: "", annotations: [] },
          runc: { runtime_type: "runc", annotations: [], options: { Binary: "", New: { a: 2, z: 1 }, Root: "/r" } },
        },
      },
      cni: { bin_dir: "" },
    }),
  );
});

test("what has no default is there only when something is set", () => {
  assert.deepEqual(completeTables({}, testPlugins)[tracing], {});
  assert.deepEqual(completeTables({ [tracing]: { service_name: "" } }, testPlugins)[tracing], {});
  assert.deepEqual(completeTables({ [tracing]: { service_name: "x" } }, testPlugins)[tracing], { service_name: "x" });
  const { auth, unpack } = completeTables({ [runtime]: { auth: {}, unpack: [{}] } }, testPlugins)[runtime] ?? {};
  assert.deepEqual([auth, unpack], [{ user: "" }, [{ platform: "", types: [] }]]);
});

test("a value of a wrong type stays for its reader to refuse", () => {
  const wrong = {
    [scheduler]: { pause_threshold: "a", schedule_delay: "soon", startup_delay: 5 },
    [runtime]: { containerd: "x", cni: [], unpack: "y", auth: 1 },
  };
  const complete = completeTables(wrong, testPlugins);
  assert.deepEqual({ ...complete[scheduler], ...wrong[scheduler] }, complete[scheduler]);
  assert.deepEqual(complete[runtime], wrong[runtime]);
  const names = completeTables({ [runtime]: { containerd: { runtimes: { runc: 1, kata: true } } } }, testPlugins);
  assert.deepEqual(names[runtime]?.["containerd"], { runtimes: { kata: true, runc: 1 } });
});
