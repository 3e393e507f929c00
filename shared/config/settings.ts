import { parseDuration } from "#base/duration.ts";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import type { ConfigSource } from "./config.ts";
import { formatKey, isTable, type TomlTable, typeName } from "./toml-table.ts";

/**
 * Reads typed values out of a plugin's table.
 *
 * Every reader throws {@link FlotillaError} `invalid_argument` when the value has another type or is missing; the message names the
 * file that set it, the key and what belongs there. A plugin that lets it pass is shown as failed, with this message.
 */
export class PluginSettings {
  readonly #table: TomlTable;
  readonly #path: readonly string[];
  readonly #sources: readonly ConfigSource[];

  /** @param path - Where the table stands in the file, such as `["plugins", "io.containerd.gc.v1.scheduler"]`. */
  constructor(table: TomlTable, path: readonly string[], sources: readonly ConfigSource[]) {
    this.#table = table;
    this.#path = path;
    this.#sources = sources;
  }

  /** The keys of the table, such as the names of runtimes. */
  keys(): string[] {
    return Object.keys(this.#table);
  }

  /** The table as it is, for who hands it on without reading it. */
  raw(): TomlTable {
    return this.#table;
  }

  /** Tells whether the key is there. */
  has(key: string): boolean {
    return Object.hasOwn(this.#table, key);
  }

  string(key: string): string {
    const value = this.#value(key, "a string");
    return typeof value === "string" ? value : this.#fail(key, value, "a string");
  }

  integer(key: string): number {
    const value = this.#value(key, "an integer");
    return typeof value === "number" && Number.isInteger(value) ? value : this.#fail(key, value, "an integer");
  }

  /** An integer or a float. */
  number(key: string): number {
    const value = this.#value(key, "a number");
    return typeof value === "number" ? value : this.#fail(key, value, "a number");
  }

  boolean(key: string): boolean {
    const value = this.#value(key, "a boolean");
    return typeof value === "boolean" ? value : this.#fail(key, value, "a boolean");
  }

  strings(key: string): readonly string[] {
    const value = this.#value(key, "an array of strings");
    return Array.isArray(value) && value.every((item) => typeof item === "string")
      ? value
      : this.#fail(key, value, "an array of strings");
  }

  /** An array of whatever it holds. */
  list(key: string): readonly unknown[] {
    const value = this.#value(key, "an array");
    return Array.isArray(value) ? value : this.#fail(key, value, "an array");
  }

  /** One of a few words. */
  choice<const T extends string>(key: string, choices: readonly T[]): T {
    const value = this.string(key);
    const chosen = choices.find((choice) => choice === value);
    return (
      chosen ?? this.#refuse(key, `expected ${choices.map((choice) => `"${choice}"`).join(" or ")}, got "${value}"`)
    );
  }

  /** A duration as Go writes it, such as `"10s"`, in milliseconds. */
  durationMs(key: string): number {
    const text = this.string(key);
    try {
      return parseDuration(text);
    } catch (error) {
      return this.#refuse(key, errorMessage(error));
    }
  }

  /** A table within the table. */
  table(key: string): PluginSettings {
    const value = this.#value(key, "a table");
    return isTable(value)
      ? new PluginSettings(value, [...this.#path, key], this.#sources)
      : this.#fail(key, value, "a table");
  }

  /** A list of tables within the table. */
  tables(key: string): PluginSettings[] {
    const value = this.#value(key, "an array of tables");
    return Array.isArray(value) && value.every(isTable)
      ? value.map((item) => new PluginSettings(item, [...this.#path, key], this.#sources))
      : this.#fail(key, value, "an array of tables");
  }

  #value(key: string, expected: string): unknown {
    return this.has(key) ? this.#table[key] : this.#refuse(key, `expected ${expected}, got nothing`);
  }

  #fail(key: string, value: unknown, expected: string): never {
    return this.#refuse(key, `expected ${expected}, got ${typeName(value)}`);
  }

  #refuse(key: string, reason: string): never {
    const path = [...this.#path, key];
    const file = this.#sources.findLast(({ plugins }) => sets({ plugins }, path))?.file;
    throw failure(ErrorKind.InvalidArgument, `${file === undefined ? "" : `${file}: `}${formatKey(path)}: ${reason}`);
  }
}

function sets(source: TomlTable, path: readonly string[]): boolean {
  let here: unknown = source;
  for (const key of path) {
    if (!isTable(here) || !Object.hasOwn(here, key)) {
      return false;
    }
    here = here[key];
  }
  return true;
}
