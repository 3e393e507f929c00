import type { Setting, Settings } from "./manifest.ts";
import type { PluginSettings } from "./settings.ts";

/**
 * Reads every declared setting that is there, so that a value of a wrong type is found whoever would read it.
 *
 * @throws {@link FlotillaError} `invalid_argument` as {@link PluginSettings} does.
 */
export function checkSettings(settings: Settings, table: PluginSettings): void {
  for (const [key, setting] of Object.entries(settings)) {
    if (table.has(key)) {
      checkValue(setting, table, key);
    }
  }
}

function checkValue(setting: Setting, table: PluginSettings, key: string): void {
  switch (setting.type) {
    case "string":
      table.string(key);
      return;
    case "duration":
      table.durationMs(key);
      return;
    case "integer":
      table.integer(key);
      return;
    case "number":
      table.number(key);
      return;
    case "boolean":
      table.boolean(key);
      return;
    case "strings":
      table.strings(key);
      return;
    case "table":
      checkSettings(setting.settings, table.table(key));
      return;
    case "names": {
      const names = table.table(key);
      names.keys().forEach((name) => checkValue(setting.each, names, name));
      return;
    }
    case "tables":
      table.tables(key).forEach((item) => checkSettings(setting.settings, item));
      return;
    case "any":
  }
}
