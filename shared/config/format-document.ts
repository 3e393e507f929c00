import type { TomlDate } from "smol-toml";
import type { ConfigDocument } from "./document.ts";
import { documentShape } from "./document.ts";
import { isTable, type TomlTable } from "./toml-table.ts";

/**
 * Writes a configuration as a TOML file, byte for byte as containerd writes its own: known keys in their order, values before tables, plugins
 * sorted, tables indented, strings in single quotes where that is possible.
 *
 * This is not left to smol-toml: its writer indents nothing, quotes every string with double quotes, sets no single-line spacing of arrays as Go
 * does (`[ "a" ]`), writes a table only where it has values of its own, so that empty tables of plugins vanish from view, and writes floats with
 * exponents. Tools compare these texts, and users read them beside containerd's.
 *
 * `proxy_plugins` is left out when there are none, as containerd leaves it out.
 *
 * One thing differs: a float that is a whole number is written as an integer, since the reader does not tell them apart.
 *
 * @source containerd v2.3.4 cmd/containerd/command/config.go `outputConfig`; go-toml v2 marshaler.go with `SetIndentTables`
 */
export function formatDocument(document: ConfigDocument): string {
  const ordered: Record<string, unknown> = {};
  for (const key of Object.keys(documentShape.fields) as (keyof ConfigDocument)[]) {
    const value = document[key];
    if (value !== undefined && !(key === "proxy_plugins" && Object.keys(value).length === 0)) {
      ordered[key] = isNamed(key) ? sorted(value) : value;
    }
  }
  return formatTable(ordered, []).concat("").join("\n");
}

/** Writes a part of a configuration as a file of its own, in the same manner. */
export function formatTomlTable(table: TomlTable): string {
  return formatTable(table, []).concat("").join("\n");
}

/** Tells the sections whose keys are names, which containerd sorts. */
function isNamed(key: string): boolean {
  return ["plugins", "proxy_plugins", "stream_processors", "timeouts"].includes(key);
}

function sorted(table: unknown): unknown {
  return isTable(table)
    ? Object.fromEntries(Object.entries(table).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
    : table;
}

/** The lines of a table without its header. A blank line stands before each table in it, but not right below the header. */
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
    const parts = isTable(value) ? [value] : isTableArray(value) ? value : [];
    const header = isTable(value) ? `[${name}]` : `[[${name}]]`;
    for (const part of parts) {
      lines.push(...(lines.length > 0 ? [""] : []), `${indent}${header}`, ...formatTable(part, below));
    }
  }
  return lines;
}

function isTableArray(value: unknown): value is readonly TomlTable[] {
  return Array.isArray(value) && value.length > 0 && value.every(isTable);
}

function formatName(key: string): string {
  if (/^[\w-]+$/.test(key)) {
    return key;
  }
  return key.includes("'") || unwritable.test(key) ? formatBasicString(key) : `'${key}'`;
}

function formatValue(value: unknown): string {
  if (typeof value === "string") {
    return value.includes("'") || unwritable.test(value) ? formatBasicString(value) : `'${value}'`;
  }
  if (Array.isArray(value)) {
    return `[${value.map(formatValue).join(", ")}]`;
  }
  if (isTable(value)) {
    return `{${Object.entries(value)
      .map(([key, item]) => `${formatName(key)} = ${formatValue(item)}`)
      .join(", ")}}`;
  }
  if (value instanceof Date) {
    return (value as TomlDate)
      .toISOString()
      .replace(/(\.\d*?)0+(?=\D|$)/, (_zeros, digits: string) => (digits === "." ? "" : digits));
  }
  return typeof value === "number" ? formatNumber(value) : String(value);
}

function formatNumber(value: number): string {
  if (!Number.isFinite(value)) {
    return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  }
  if (Number.isInteger(value)) {
    return Number.isSafeInteger(value) ? String(value) : `${BigInt(value)}.0`;
  }
  const [digits = "", exponent] = String(Math.abs(value)).split("e-");
  const unsigned = exponent === undefined ? digits : `0.${"0".repeat(Number(exponent) - 1)}${digits.replace(".", "")}`;
  return value < 0 ? `-${unsigned}` : unsigned;
}

// What a TOML string can't hold as it is: control characters of ASCII but the tab, and halves of surrogate pairs, which are no text.
const unwritable = /[^\P{Cc}\t\u0080-\u009f]|\p{Cs}/u;

const escapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  "\\": "\\\\",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

function formatBasicString(text: string): string {
  const escaped = text.replaceAll(
    /["\\]|[^\P{Cc}\u0080-\u009f]|\p{Cs}/gu,
    (character) => escapes[character] ?? `\\u${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`,
  );
  return `"${escaped}"`;
}
