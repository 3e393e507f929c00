import type { ConfigDocument } from "./document.ts";
import { documentShape } from "./document.ts";
import { isTable, type TomlTable } from "./toml-table.ts";

/**
 * Writes a configuration as a TOML file, in the layout in which containerd writes its own: known keys in their order, values before tables,
 * plugins sorted, tables indented, strings in single quotes where that is possible.
 *
 * @source containerd v2.3.4 cmd/containerd/command/config.go `outputConfig`
 */
export function formatDocument(document: ConfigDocument): string {
  const ordered: Record<string, unknown> = {};
  for (const key of Object.keys(documentShape.fields) as (keyof ConfigDocument)[]) {
    const value = document[key];
    if (value !== undefined) {
      ordered[key] = key === "plugins" || key === "timeouts" || key === "stream_processors" ? sorted(value) : value;
    }
  }
  return formatTable(ordered, []).join("\n").replace(/^\n/, "").concat("\n");
}

function sorted(table: unknown): unknown {
  return isTable(table)
    ? Object.fromEntries(Object.entries(table).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
    : table;
}

function formatTable(table: TomlTable, path: readonly string[]): string[] {
  const indent = "  ".repeat(path.length);
  const lines: string[] = [];
  for (const [key, value] of Object.entries(table)) {
    if (value !== undefined && !isTable(value) && !isTableArray(value)) {
      lines.push(`${indent}${formatName(key)} = ${formatValue(value)}`);
    }
  }
  for (const [key, value] of Object.entries(table)) {
    const below = [...path, key];
    const name = below.map(formatName).join(".");
    if (isTable(value)) {
      lines.push("", `${indent}[${name}]`, ...formatTable(value, below));
    } else if (isTableArray(value)) {
      lines.push(...value.flatMap((item) => ["", `${indent}[[${name}]]`, ...formatTable(item, below)]));
    }
  }
  return lines;
}

function isTableArray(value: unknown): value is readonly TomlTable[] {
  return Array.isArray(value) && value.length > 0 && value.every(isTable);
}

function formatName(key: string): string {
  return /^[\w-]+$/.test(key) ? key : formatString(key);
}

function formatValue(value: unknown): string {
  if (typeof value === "string") {
    return formatString(value);
  }
  if (Array.isArray(value)) {
    return `[${value.map(formatValue).join(", ")}]`;
  }
  if (isTable(value)) {
    const pairs = Object.entries(value).map(([key, item]) => `${formatName(key)} = ${formatValue(item)}`);
    return pairs.length === 0 ? "{}" : `{ ${pairs.join(", ")} }`;
  }
  if (value instanceof Date) {
    return value.toISOString();
  }
  if (typeof value === "number" && !Number.isFinite(value)) {
    return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  }
  return String(value);
}

// What a TOML string can't hold as it is: control characters, and halves of surrogate pairs, which are no text.
const unwritable = /[\p{Cc}\p{Cs}]/u;

function formatString(text: string): string {
  return unwritable.test(text) || text.includes("'") ? formatBasicString(text) : `'${text}'`;
}

function formatBasicString(text: string): string {
  const escaped = text.replaceAll(/["\\]|[\p{Cc}\p{Cs}]/gu, (character) =>
    character === '"' || character === "\\"
      ? `\\${character}`
      : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `"${escaped}"`;
}
