import assert from "node:assert/strict";
import test from "node:test";
import { parse } from "smol-toml";
import { parseDuration } from "#base/duration.ts";
import { formatDocument } from "#config/format-document.ts";
import { pluginUri, type Setting, type Settings } from "#config/manifest.ts";
import { completeTables } from "#config/plugin-tables.ts";
import { allPlugins } from "./plugins.ts";

test("no two plugins have the same name", () => {
  const names = allPlugins.map(pluginUri);
  assert.deepEqual(names.toSorted(), [...new Set(names)].toSorted());
});

test("every default is a value that TOML holds", () => {
  const plugins = completeTables({}, allPlugins);
  assert.deepEqual(structuredClone(parse(formatDocument({ plugins }))), { plugins });
});

test("what changes while the daemon runs is a setting", () => {
  const keysOf = (settings: Settings, prefix = ""): string[] =>
    Object.entries(settings).flatMap(([key, setting]) => [
      `${prefix}${key}`,
      ...("settings" in setting ? keysOf(setting.settings, `${prefix}${key}.`) : []),
    ]);
  for (const plugin of allPlugins) {
    const known = keysOf(plugin.settings ?? {});
    const unknown = (plugin.reloads ?? []).filter((key) => !known.includes(key));
    assert.deepEqual(unknown, [], pluginUri(plugin));
  }
});

test("defaults have the type of their setting, and every setting says in a sentence what it is for", () => {
  const fits: Partial<Record<Setting["type"], (value: unknown) => boolean>> = {
    string: (value) => typeof value === "string",
    duration: (value) => typeof value === "string" && parseDuration(value) >= 0,
    integer: Number.isSafeInteger,
    number: Number.isFinite,
    boolean: (value) => typeof value === "boolean",
    strings: (value) => Array.isArray(value) && value.every((item) => typeof item === "string"),
  };
  const check = (setting: Setting, path: string): void => {
    assert.match(setting.about, /^[A-Z].*[^.]\.$/, path);
    if ("settings" in setting) {
      Object.entries(setting.settings).forEach(([key, below]) => check(below, `${path} ${key}`));
    } else if ("each" in setting) {
      check(setting.each, `${path} *`);
    } else if (setting.default !== undefined) {
      assert.equal(fits[setting.type]?.(setting.default), true, path);
    }
  };
  for (const plugin of allPlugins) {
    Object.entries(plugin.settings ?? {}).forEach(([key, setting]) => check(setting, `${pluginUri(plugin)} ${key}`));
  }
});
