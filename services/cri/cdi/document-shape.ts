/** What a value of a document must be. */
export type Shape =
  | "string"
  | "boolean"
  | "integer"
  /** A whole number from 0 to 2³² - 1. */
  | "id"
  | { readonly list: Shape }
  /** A table of texts by any names. */
  | "texts"
  /** A table of values of one kind by any names. */
  | { readonly each: Shape }
  | { readonly fields: Readonly<Record<string, Shape>> };

const idMax = 2 ** 32 - 1;

/**
 * Checks a document strictly: a field that nobody knows is as wrong as a value of the wrong kind. What is null counts as absent.
 *
 * @param path - Where in the document the value stands, for the message.
 * @returns The value without what is null.
 * @throws {Error} which says where it is wrong.
 */
export function checkShape(shape: Shape, value: unknown, path = "document"): unknown {
  if (typeof shape === "string" && shape !== "texts") {
    const isRight =
      shape === "string" || shape === "boolean"
        ? typeof value === shape
        : Number.isSafeInteger(value) && (shape === "integer" || (Number(value) >= 0 && Number(value) <= idMax));
    if (!isRight) {
      throw new Error(`${path} must be of type ${shape}`);
    }
    return value;
  }
  if (typeof shape === "object" && "list" in shape) {
    if (!Array.isArray(value)) {
      throw new Error(`${path} must be a list`);
    }
    return value.map((item, index) => checkShape(shape.list, item, `${path}[${index}]`));
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error(`${path} must be a table`);
  }
  const present = Object.entries(value).filter(([, item]) => item !== null);
  return Object.fromEntries(
    present.map(([key, item]) => {
      const of = shapeOf(shape, key);
      if (of === undefined) {
        throw new Error(`unknown field "${key}" in ${path}`);
      }
      return [key, checkShape(of, item, `${path}.${key}`)];
    }),
  );
}

/** What the value of a key must be; undefined where there must be no such key. */
function shapeOf(table: Extract<Shape, "texts" | object>, key: string): Shape | undefined {
  if (table === "texts") {
    return "string";
  }
  if ("each" in table) {
    return table.each;
  }
  return "fields" in table && Object.hasOwn(table.fields, key) ? table.fields[key] : undefined;
}
