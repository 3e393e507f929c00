import type { FieldSource, Filter } from "#containerd/filter.ts";
import { encodeRecords } from "#wire/encoded-records.ts";
import type { NamedRecord } from "../store/named-record.ts";

/**
 * Reads records page by page and hands on those that pass in messages of the same number of records, the last one of fewer. No message
 * is empty. Records are decoded for filters alone.
 *
 * @param readPage - The records after a name, in order; fewer than `countMax` need not be the last ones, none are.
 * @returns Encoded messages with the records in field 1.
 */
export function* listInMessages(options: {
  readonly countMax: number;
  readonly readPage: (afterName: string, countMax: number) => readonly NamedRecord[];
  readonly filter: Filter | undefined;
  readonly fieldsOf: (record: Uint8Array) => FieldSource;
}): Generator<Uint8Array> {
  const { countMax, readPage, filter, fieldsOf } = options;
  let passed: Uint8Array[] = [];
  let page = readPage("", countMax);
  for (let last = page.at(-1); last !== undefined; last = page.at(-1)) {
    for (const { message } of page) {
      if (filter === undefined || filter(fieldsOf(message))) {
        passed.push(message);
      }
      if (passed.length === countMax) {
        yield encodeRecords(passed);
        passed = [];
      }
    }
    page = readPage(last.name, countMax);
  }
  if (passed.length > 0) {
    yield encodeRecords(passed);
  }
}
