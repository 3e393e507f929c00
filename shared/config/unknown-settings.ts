import type { PluginTable } from "./config.ts";
import { criNameTables } from "./cri-defaults.ts";
import { optionalSettings, pluginDefaults } from "./defaults.ts";
import { formatKey, isTable, type TomlTable } from "./toml-table.ts";

/**
 * Finds settings in plugin tables that their plugins do not know; mostly typing errors. Tables of plugins that are not part of the fleet are
 * passed over, since a plugin from elsewhere may read them.
 *
 * @returns One warning for each.
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `(*Config).Decode`
 */
export function findUnknownSettings(plugins: Readonly<Record<string, PluginTable>>): string[] {
  const warnings: string[] = [];
  for (const [plugin, table] of Object.entries(plugins)) {
    const known = Object.hasOwn(pluginDefaults, plugin) ? pluginDefaults[plugin] : undefined;
    if (known !== undefined) {
      for (const path of unknownPaths(table, known, [plugin])) {
        warnings.push(`Ignoring unknown key in TOML for plugin: ${plugin}: ${formatKey(path.slice(1))}`);
      }
    }
  }
  return warnings;
}

function unknownPaths(table: TomlTable, known: TomlTable, path: readonly string[]): string[][] {
  if (criNameTables.some((open) => open.join("\0") === path.join("\0"))) {
    return [];
  }
  const optional = path.length === 1 ? (optionalSettings[path.join()] ?? []) : [];
  return Object.entries(table).flatMap(([key, value]) => {
    const itemPath = [...path, key];
    if (!Object.hasOwn(known, key)) {
      return optional.includes(key) ? [] : [itemPath];
    }
    const below = known[key];
    return isTable(value) && isTable(below) ? unknownPaths(value, below, itemPath) : [];
  });
}
