import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { checkSettings } from "./check-settings.ts";
import type { Settings } from "./manifest.ts";
import { PluginSettings } from "./settings.ts";
import type { TomlTable } from "./toml-table.ts";

const settings = new PluginSettings(
  {
    text: "a",
    whole: 3,
    part: 0.5,
    yes: true,
    list: ["a", "b"],
    delay: "1m30s",
    inner: { deep: { name: "x" } },
  },
  ["plugins", "io.x.v1.y"],
  [],
);

test("values of the right type are given", () => {
  assert.equal(settings.string("text"), "a");
  assert.equal(settings.integer("whole"), 3);
  assert.equal(settings.number("part"), 0.5);
  assert.equal(settings.number("whole"), 3);
  assert.equal(settings.boolean("yes"), true);
  assert.deepEqual(settings.strings("list"), ["a", "b"]);
  assert.equal(settings.durationMs("delay"), 90_000);
  assert.equal(settings.choice("text", ["a", "b"]), "a");
  assert.equal(settings.table("inner").table("deep").string("name"), "x");
  assert.equal(settings.has("inner"), true);
  assert.equal(settings.has("toString"), false);
});

test("every declared setting that is there is checked, at every depth", () => {
  const about = "A thing.";
  const texts = { type: "strings", about } as const;
  const declared: Settings = {
    text: { type: "string", about },
    whole: { type: "integer", about },
    part: { type: "number", about },
    yes: { type: "boolean", about },
    list: texts,
    delay: { type: "duration", about },
    absent: { type: "boolean", about },
    inner: {
      type: "names",
      each: { type: "table", settings: { name: { type: "string", about } }, about },
      about,
    },
  };
  checkSettings(declared, settings);
  const table = (content: TomlTable): PluginSettings => new PluginSettings(content, ["p"], []);
  const rows: Settings = { rows: { type: "tables", settings: { list: texts }, about } };
  checkSettings(rows, table({ rows: [{ list: ["a"] }, {}] }));
  for (const [checked, content, message] of [
    [declared, { delay: "soon" }, 'p.delay: time: invalid duration "soon"'],
    [declared, { inner: { a: { name: 1 } } }, "p.inner.a.name: expected a string, got an integer"],
    [declared, { inner: { a: 1 } }, "p.inner.a: expected a table, got an integer"],
    [rows, { rows: [{ list: [1] }] }, "p.rows.list: expected an array of strings, got an array"],
    [rows, { rows: [1] }, "p.rows: expected an array of tables, got an array"],
  ] as const) {
    assert.throws(() => checkSettings(checked, table(content)), { message: `${message}: invalid argument` });
  }
});

test("others are refused as an invalid argument, with key and types", () => {
  const prefix = 'plugins."io.x.v1.y"';
  for (const [read, message] of [
    [() => settings.string("whole"), `${prefix}.whole: expected a string, got an integer`],
    [() => settings.integer("part"), `${prefix}.part: expected an integer, got a float`],
    [() => settings.number("text"), `${prefix}.text: expected a number, got a string`],
    [() => settings.boolean("text"), `${prefix}.text: expected a boolean, got a string`],
    [() => settings.strings("text"), `${prefix}.text: expected an array of strings, got a string`],
    [() => settings.durationMs("text"), `${prefix}.text: time: invalid duration "a"`],
    [() => settings.choice("text", ["b", "c"]), `${prefix}.text: expected "b" or "c", got "a"`],
    [() => settings.table("list"), `${prefix}.list: expected a table, got an array`],
    [() => settings.table("inner").string("deep"), `${prefix}.inner.deep: expected a string, got a table`],
    [() => settings.string("toString"), `${prefix}.toString: expected a string, got nothing`],
  ] as const) {
    assert.throws(read, (error) => {
      assert.ok(isFailure(error, ErrorKind.InvalidArgument));
      assert.equal(error.message, `${message}: invalid argument`);
      return true;
    });
  }
});
