import { formatDuration, parseDuration } from "#base/duration.ts";
import type { PluginTable } from "./config.ts";
import { type ConfigurablePlugin, pluginUri, type Setting, type Settings } from "./manifest.ts";
import { formatKey, isTable, type TomlTable } from "./toml-table.ts";

type Tables = Readonly<Record<string, PluginTable>>;

/**
 * Leaves out of plugin tables what their plugins do not know; mostly typing errors. Tables of plugins without a manifest stay, since a plugin
 * from elsewhere may read them.
 *
 * @param onUnknown - Is told one warning for each key.
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `(*Config).Decode`
 */
export function knownTables(
  tables: Tables,
  plugins: readonly ConfigurablePlugin[],
  onUnknown: (warning: string) => void,
): Record<string, PluginTable> {
  const settingsOf = settingsByPlugin(plugins);
  return mapEntries(tables, (uri, table) => {
    const settings = settingsOf.get(uri);
    return settings === undefined
      ? table
      : knownPart(settings, table, [], (path) =>
          onUnknown(`Ignoring unknown key in TOML for plugin: ${uri}: ${formatKey(path)}`),
        );
  });
}

/**
 * Lays the tables of the files over the defaults of their plugins. Known settings come out in the order of the manifest, keys that the user has
 * chosen sorted. A value of a wrong type is kept: who reads it refuses it.
 */
export function completeTables(tables: Tables, plugins: readonly ConfigurablePlugin[]): Record<string, PluginTable> {
  const settingsOf = settingsByPlugin(plugins);
  const complete: Record<string, PluginTable> = {};
  for (const uri of new Set([...settingsOf.keys(), ...Object.keys(tables)])) {
    const settings = settingsOf.get(uri);
    const table = tables[uri] ?? {};
    complete[uri] =
      settings === undefined
        ? sortedTable(mapEntries(table, (_key, value) => sortedDeep(value)))
        : completeTable(settings, table, {});
  }
  return complete;
}

/** The table of a plugin for which no file says anything. */
export function defaultTable({ settings = {} }: ConfigurablePlugin): PluginTable {
  return completeTable(settings, {}, {});
}

function settingsByPlugin(plugins: readonly ConfigurablePlugin[]): Map<string, Settings> {
  return new Map(
    plugins.flatMap((plugin) => (plugin.settings === undefined ? [] : [[pluginUri(plugin), plugin.settings] as const])),
  );
}

type OnUnknown = (path: readonly string[]) => void;

function knownPart(settings: Settings, table: TomlTable, path: readonly string[], onUnknown: OnUnknown): TomlTable {
  const known: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(table)) {
    const below = [...path, key];
    const setting = Object.hasOwn(settings, key) ? settings[key] : undefined;
    if (setting === undefined) {
      onUnknown(below);
    } else {
      known[key] = knownValue(setting, value, below, onUnknown);
    }
  }
  return known;
}

function knownValue(setting: Setting, value: unknown, path: readonly string[], onUnknown: OnUnknown): unknown {
  if (setting.type === "table" && isTable(value)) {
    return knownPart(setting.settings, value, path, onUnknown);
  }
  if (setting.type === "names" && isTable(value)) {
    return mapEntries(value, (name, item) => knownValue(setting.each, item, [...path, name], onUnknown));
  }
  if (setting.type === "tables" && Array.isArray(value)) {
    return value.map((item: unknown) => (isTable(item) ? knownPart(setting.settings, item, path, onUnknown) : item));
  }
  return value;
}

function completeTable(settings: Settings, table: TomlTable, defaults: TomlTable): TomlTable {
  const complete: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(settings)) {
    const value = completeValue(setting, valueAt(table, key), valueAt(defaults, key));
    if (value !== undefined) {
      complete[key] = value;
    }
  }
  return complete;
}

/** @param preset - What holds in place of the setting's own default, as for a name that stands among the defaults. */
function completeValue(setting: Setting, value: unknown, preset: unknown): unknown {
  switch (setting.type) {
    case "table":
      return value === undefined && preset === undefined && setting.optional === true
        ? undefined
        : completeWithin(setting.settings, value, preset);
    case "names":
      return completeNames(setting.each, value ?? {}, preset ?? setting.default ?? {});
    case "tables":
      return Array.isArray(value)
        ? withoutEmpty(value.map((item: unknown) => completeWithin(setting.settings, item, undefined)))
        : value;
    case "any":
      return sortedDeep(value ?? preset);
    default: {
      const chosen = value ?? preset ?? setting.default;
      const shown = setting.type === "duration" && typeof chosen === "string" ? normalDuration(chosen) : chosen;
      return setting.default === undefined ? withoutEmpty(shown) : shown;
    }
  }
}

function completeWithin(settings: Settings, value: unknown, preset: unknown): unknown {
  return value === undefined || isTable(value)
    ? completeTable(settings, value ?? {}, isTable(preset) ? preset : {})
    : value;
}

/** No table at all where there is no name, as containerd writes it. */
function completeNames(each: Setting, value: unknown, preset: unknown): unknown {
  if (!isTable(value) || !isTable(preset)) {
    return value;
  }
  const names = mapEntries({ ...preset, ...value }, (name) =>
    completeValue(each, valueAt(value, name), valueAt(preset, name)),
  );
  return Object.keys(names).length === 0 ? undefined : sortedTable(names);
}

/** A setting without a default that is set to nothing counts as not set. */
function withoutEmpty(value: unknown): unknown {
  const isEmpty = value === "" || value === 0 || value === false || (Array.isArray(value) && value.length === 0);
  return isEmpty ? undefined : value;
}

/** A duration is shown as Go writes it; what is none is kept for whoever reads and refuses it. */
function normalDuration(text: string): string {
  try {
    return formatDuration(parseDuration(text));
  } catch {
    return text;
  }
}

function valueAt(table: TomlTable, key: string): unknown {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

function sortedDeep(value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.map(sortedDeep);
  }
  return isTable(value) ? sortedTable(mapEntries(value, (_key, item) => sortedDeep(item))) : value;
}

function sortedTable(table: TomlTable): TomlTable {
  return Object.fromEntries(Object.entries(table).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function mapEntries<T, R>(table: Readonly<Record<string, T>>, map: (key: string, value: T) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(table).map(([key, value]) => [key, map(key, value)]));
}
