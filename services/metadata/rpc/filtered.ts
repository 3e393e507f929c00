import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { compileFilters, type FieldSource, type Filter } from "#containerd/filter.ts";
import { encodeRecords } from "#wire/encoded-records.ts";
import { EncodedResponse } from "#wire/handler.ts";

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

/** Records that are kept encoded, by namespace. */
export interface RecordLists {
  list(namespace: string): Uint8Array[];
  /** All of them in field 1 of one message. */
  encodedList(namespace: string): Uint8Array;
}

/**
 * Answers a List, without decoding anything unless filters ask for fields.
 *
 * @throws {@link FlotillaError} `invalid_argument` as {@link compileListFilters} does.
 */
export function listResponse(
  records: RecordLists,
  namespace: string,
  filters: readonly string[],
  fieldsOf: (record: Uint8Array) => FieldSource,
): EncodedResponse {
  const filter = compileListFilters(filters);
  return new EncodedResponse(
    filter === undefined
      ? records.encodedList(namespace)
      : encodeRecords(records.list(namespace).filter((record) => filter(fieldsOf(record)))),
  );
}
