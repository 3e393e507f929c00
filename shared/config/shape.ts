import { formatKey, isTable, mergeTables, type TomlTable, typeName } from "./toml-table.ts";

/**
 * What a part of the configuration file may hold and how two files merge there:
 * - scalars: the later value wins unless it is empty;
 * - `strings`: what the later list adds is appended;
 * - `tables`: tables of any content, merged by key at every depth;
 * - `fields`: a table of known keys;
 * - `each`: a table of any keys, the values of which are replaced as a whole.
 *
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `mergeConfig`
 */
export type Shape = "string" | "integer" | "boolean" | "strings" | "tables" | FieldsShape | EachShape;

interface FieldsShape {
  readonly fields: Readonly<Record<string, Shape>>;
}

interface EachShape {
  readonly each: Shape;
}

/** The type of a value that has a shape. Every key may be absent. */
export type Shaped<S> = S extends "string"
  ? string
  : S extends "integer"
    ? number
    : S extends "boolean"
      ? boolean
      : S extends "strings"
        ? readonly string[]
        : S extends "tables"
          ? Readonly<Record<string, TomlTable>>
          : S extends { readonly fields: infer F }
            ? { readonly [K in keyof F]?: Shaped<F[K]> }
            : S extends { readonly each: infer E }
              ? Readonly<Record<string, Shaped<E>>>
              : never;

/**
 * Gives a value from a TOML file the type of its shape.
 *
 * @param onUnknown - Is told the path of each key that the shape does not know; the key is left out.
 * @throws Error that names the key, the type that it should have and the one that it has.
 */
export function shapeValue<const S extends Shape>(
  shape: S,
  value: unknown,
  onUnknown: (path: readonly string[]) => void,
): Shaped<S> {
  return shapeAny(shape, value, [], onUnknown) as Shaped<S>;
}

const scalars = {
  string: { article: "a string", fits: (value: unknown) => typeof value === "string" },
  integer: { article: "an integer", fits: (value: unknown) => Number.isSafeInteger(value) },
  boolean: { article: "a boolean", fits: (value: unknown) => typeof value === "boolean" },
};

function shapeAny(
  shape: Shape,
  value: unknown,
  path: readonly string[],
  onUnknown: (path: readonly string[]) => void,
): unknown {
  const wrong = (expected: string): Error =>
    new Error(`${formatKey(path)}: expected ${expected}, got ${typeName(value)}`);
  if (shape === "string" || shape === "integer" || shape === "boolean") {
    if (!scalars[shape].fits(value)) {
      throw wrong(scalars[shape].article);
    }
    return value;
  }
  if (shape === "strings") {
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
      throw wrong("an array of strings");
    }
    return value;
  }
  if (!isTable(value)) {
    throw wrong("a table");
  }
  const shaped: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    const itemPath = [...path, key];
    if (shape === "tables") {
      if (!isTable(item)) {
        throw new Error(`${formatKey(itemPath)}: expected a table, got ${typeName(item)}`);
      }
      shaped[key] = item;
      continue;
    }
    const itemShape = "each" in shape ? shape.each : Object.hasOwn(shape.fields, key) ? shape.fields[key] : undefined;
    if (itemShape === undefined) {
      onUnknown(itemPath);
      continue;
    }
    shaped[key] = shapeAny(itemShape, item, itemPath, onUnknown);
  }
  return shaped;
}

/**
 * Merges the values of two files, the second of which was read later. Of three files it does not matter which two are merged first.
 *
 * @param shape - The shape that both have.
 * @throws Error that names a key which is a table in one file only.
 */
export function mergeShaped<T>(shape: Shape, older: T, newer: T): T {
  return mergeAny(shape, older, newer, []) as T;
}

function mergeAny(shape: Shape, older: unknown, newer: unknown, path: readonly string[]): unknown {
  if (older === undefined || newer === undefined) {
    return newer ?? older;
  }
  if (Array.isArray(older) && Array.isArray(newer)) {
    return [...older, ...newer.filter((item, index) => !older.includes(item) && newer.indexOf(item) === index)];
  }
  if (!isTable(older) || !isTable(newer)) {
    return newer === "" || newer === 0 || newer === false ? older : newer;
  }
  if (shape === "tables") {
    return mergeTables(older, newer, path);
  }
  const merged: Record<string, unknown> = { ...older };
  for (const [key, value] of Object.entries(newer)) {
    const field = typeof shape === "object" && "fields" in shape ? shape.fields[key] : undefined;
    merged[key] = field === undefined ? value : mergeAny(field, merged[key], value, [...path, key]);
  }
  return merged;
}
