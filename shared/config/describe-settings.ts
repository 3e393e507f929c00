import { type ConfigurablePlugin, pluginUri, type Setting, type Settings } from "./manifest.ts";

/**
 * Writes the reference of all settings as a page of Markdown: one table for each plugin that has a table in the configuration, sorted.
 *
 * @param groups - Plugins under a heading and an introduction.
 */
export function describeSettings(groups: readonly SettingsGroup[]): string {
  return groups
    .map(({ heading, text, plugins }) => [`## ${heading}\n\n${text}\n`, ...sections(plugins)].join("\n"))
    .join("\n");
}

/** Plugins that belong together on the page. */
export interface SettingsGroup {
  readonly heading: string;
  readonly text: string;
  readonly plugins: readonly ConfigurablePlugin[];
}

function sections(plugins: readonly ConfigurablePlugin[]): string[] {
  return plugins
    .filter(({ settings }) => Object.keys(settings ?? {}).length > 0)
    .toSorted((a, b) => (pluginUri(a) < pluginUri(b) ? -1 : 1))
    .map((plugin) => {
      const rows = rowsOf(plugin.settings ?? {}, "", new Set(plugin.reloads));
      return `### \`${pluginUri(plugin)}\`\n\n| key | type | default | |\n| --- | --- | --- | --- |\n${rows.join("\n")}\n`;
    });
}

function rowsOf(settings: Settings, prefix: string, reloads: ReadonlySet<string>): string[] {
  return Object.entries(settings).flatMap(([key, setting]) => settingRows(setting, `${prefix}${key}`, reloads));
}

/** @param reloads - Keys that change while the daemon runs. */
function settingRows(setting: Setting, key: string, reloads: ReadonlySet<string>): string[] {
  const mark = reloads.has(key) ? " ↻" : "";
  const own = `| \`${key}\`${mark} | ${typeText(setting)} | ${defaultText(setting)} | ${setting.about} |`;
  switch (setting.type) {
    case "table":
      return [own, ...rowsOf(setting.settings, `${key}.`, reloads)];
    case "tables":
      return [own, ...rowsOf(setting.settings, `${key}[].`, reloads)];
    case "names":
      return [own, ...settingRows(setting.each, `${key}.NAME`, reloads)];
    default:
      return [own];
  }
}

function typeText({ type }: Setting): string {
  const texts: Partial<Record<Setting["type"], string>> = {
    names: "table of names",
    strings: "list of strings",
    tables: "list of tables",
  };
  return texts[type] ?? type;
}

function defaultText(setting: Setting): string {
  if (!("default" in setting) || setting.default === undefined) {
    return "";
  }
  if (setting.type === "names") {
    return Object.keys(setting.default)
      .map((name) => `\`${name}\``)
      .join(", ");
  }
  return "defaultText" in setting ? (setting.defaultText ?? "") : `\`${JSON.stringify(setting.default)}\``;
}
