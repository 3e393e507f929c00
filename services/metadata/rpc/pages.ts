import type { FieldSource, Filter } from "#containerd/filter.ts";

/**
 * Reads records page by page and hands on those that pass in messages of the same size, the last one smaller. No message is
 * empty.
 *
 * @param readPage - The records after a name, in order; fewer than `countMax` need not be the last ones, none are.
 */
export function* listInMessages<T>(options: {
  readonly countMax: number;
  readonly readPage: (afterName: string, countMax: number) => T[];
  readonly nameOf: (record: T) => string;
  readonly filter: Filter | undefined;
  readonly fieldsOf: (record: T) => FieldSource;
}): Generator<T[]> {
  const { countMax, readPage, nameOf, filter, fieldsOf } = options;
  let passed: T[] = [];
  let page = readPage("", countMax);
  for (let last = page.at(-1); last !== undefined; last = page.at(-1)) {
    for (const record of page) {
      if (filter === undefined || filter(fieldsOf(record))) {
        passed.push(record);
      }
      if (passed.length === countMax) {
        yield passed;
        passed = [];
      }
    }
    page = readPage(nameOf(last), countMax);
  }
  if (passed.length > 0) {
    yield passed;
  }
}
