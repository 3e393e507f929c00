/** A table as a TOML file or its defaults hold it. */
export type TomlTable = Readonly<Record<string, unknown>>;

/** Tells a table from scalars, lists and dates. */
export function isTable(value: unknown): value is TomlTable {
  if (typeof value !== "object" || value === null) {
    return false;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/**
 * Lays one table over another: tables are merged by key, all else is replaced, lists too. A value that is empty replaces as well.
 *
 * A key that is a table on one side only is refused, where containerd takes the later. It is a mistake, and taking the later would make the
 * outcome depend on which of three files are merged first.
 *
 * @param path - Where the tables stand, for the error.
 * @throws Error that names the key and what it is on each side.
 * @source containerd v2.3.4 vendor/dario.cat/mergo/merge.go `deepMerge` (maps, with override)
 */
export function mergeTables(older: TomlTable, newer: TomlTable, path: readonly string[]): TomlTable {
  const merged: Record<string, unknown> = { ...older };
  for (const [key, value] of Object.entries(newer)) {
    merged[key] = Object.hasOwn(older, key) ? mergeValues(older[key], value, [...path, key]) : value;
  }
  return merged;
}

function mergeValues(older: unknown, newer: unknown, path: readonly string[]): unknown {
  if (isTable(older) && isTable(newer)) {
    return mergeTables(older, newer, path);
  }
  if (isTable(older) || isTable(newer)) {
    throw new Error(`${formatKey(path)}: expected ${typeName(older)} as in the files before, got ${typeName(newer)}`);
  }
  return newer;
}

/** Writes the path of a key as TOML does: `plugins."io.containerd.gc.v1.scheduler".schedule_delay`. */
export function formatKey(path: readonly string[]): string {
  return path.map((part) => (/^[\w-]+$/.test(part) ? part : JSON.stringify(part))).join(".");
}

/** Names the type of a TOML value for an error, such as `an integer`. */
export function typeName(value: unknown): string {
  switch (typeof value) {
    case "string":
      return "a string";
    case "boolean":
      return "a boolean";
    case "bigint":
      return "an integer out of range";
    case "number":
      return Number.isInteger(value) ? "an integer" : "a float";
    default:
      return Array.isArray(value) ? "an array" : value instanceof Date ? "a date" : "a table";
  }
}
