import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { compileFilters, type FieldSource, type Filter } from "#containerd/filter.ts";
import { EncodedResponse } from "#wire/handler.ts";
import { encodeRecords } from "../store/encoded-records.ts";

/**
 * Compiles the filters of a list, or answers undefined when they let everything pass, so that nothing need be decoded.
 *
 * @throws {@link FlotillaError} `invalid_argument`, whose text has the class twice as containerd's has.
 * @source containerd v2.3.4 core/metadata/containers.go `List`, pkg/filters/parser.go `ParseAll`
 */
export function compileListFilters(filters: readonly string[]): Filter | undefined {
  try {
    return compileStreamFilters(filters);
  } catch (error) {
    throw new FlotillaError(ErrorKind.InvalidArgument, `${errorMessage(error)}: ${ErrorKind.InvalidArgument}`, {
      cause: error,
    });
  }
}

/** The same for lists that are streams, whose text has the class once. */
export function compileStreamFilters(filters: readonly string[]): Filter | undefined {
  return filters.length === 0 ? undefined : compileFilters(filters);
}

/** A store of records that are kept encoded, by namespace. */
export interface RecordLists {
  list(namespace: string): Uint8Array[];
  /** All of them in field 1 of one message, where the store keeps that at hand. */
  encodedList?(namespace: string): Uint8Array;
}

/**
 * Answers a List, without decoding anything unless filters ask for fields.
 *
 * @param fieldsOf - Decodes a record and gives its fields.
 */
export function listResponse(
  store: RecordLists,
  namespace: string,
  filter: Filter | undefined,
  fieldsOf: (record: Uint8Array) => FieldSource,
): EncodedResponse {
  const whole = filter === undefined ? store.encodedList?.(namespace) : undefined;
  return new EncodedResponse(whole ?? encodeRecords(filterRecords(store.list(namespace), filter, fieldsOf)));
}

/** Keeps the encoded records that pass a filter. */
export function filterRecords(
  records: Uint8Array[],
  filter: Filter | undefined,
  fieldsOf: (record: Uint8Array) => FieldSource,
): Uint8Array[] {
  return filter === undefined ? records : records.filter((record) => filter(fieldsOf(record)));
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
