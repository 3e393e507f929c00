import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import type { FieldSource } from "#containerd/filter.ts";

/** Gives the fields of a kind of records that filters may name, by the first part of their path. */
export type RecordFields<M> = Readonly<Record<string, (record: M, path: readonly string[]) => string | undefined>>;

/** Reads the fields of encoded records for filters. Names that are not among the fields count as absent. */
export function recordFields<S extends DescMessage>(
  schema: S,
  fields: RecordFields<MessageShape<S>>,
): (record: Uint8Array) => FieldSource {
  return (encoded) => {
    const record = fromBinary(schema, encoded);
    return (path) => {
      const [name = ""] = path;
      return Object.hasOwn(fields, name) ? fields[name]?.(record, path) : undefined;
    };
  };
}

/** An entry of a map by the parts of a path that follow the map's name. */
export function mapEntry(map: Readonly<Record<string, string>>, path: readonly string[]): string | undefined {
  const key = path.slice(1).join(".");
  return Object.hasOwn(map, key) ? map[key] : undefined;
}

/** A field that counts as absent while it is empty. */
export function unlessEmpty(value: string | undefined): string | undefined {
  return value === "" ? undefined : value;
}
