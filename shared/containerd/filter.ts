import { parseFilter, type Selector } from "./filter-parser.ts";
import { compileRegexp } from "./regexp.ts";

/**
 * Gives a filter the fields of one object.
 *
 * @param path - At least one part. What follows the name of a map is joined with dots to make its key.
 * @returns undefined where the field is absent. Most string fields of containerd count as absent when they are empty.
 */
export type FieldSource = (path: readonly string[]) => string | undefined;

/** Tells whether an object passes. */
export type Filter = (fields: FieldSource) => boolean;

/**
 * Compiles containerd's filters, of which one must hold; no filter at all, like an empty one, holds for everything.
 *
 * A missing field passes `!=` and is the empty string to `~=`. A regular expression that RE2 would refuse matches
 * nothing and is no error.
 *
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text,
 *   `filters: parse error: [before >|c|< after]: what: invalid argument`.
 *
 * Cost: a match takes time linear in the filter and in the value, whatever the regular expression.
 *
 * @source containerd v2.3.4 pkg/filters/filter.go `selector.Match`, pkg/filters/parser.go `ParseAll`
 */
export function compileFilters(filters: readonly string[]): Filter {
  if (filters.length === 0 || filters.includes("")) {
    for (const filter of filters) {
      compileFilter(filter);
    }
    return () => true;
  }
  const compiled = filters.map(compileFilter);
  return (fields) => compiled.some((selectors) => selectors.every((matches) => matches(fields)));
}

function compileFilter(filter: string): Filter[] {
  return filter === "" ? [] : parseFilter(filter).map(compileSelector);
}

function compileSelector({ path, operator, value }: Selector): Filter {
  switch (operator) {
    case "present":
      return (fields) => fields(path) !== undefined;
    case "==":
      return (fields) => {
        const found = fields(path);
        return found !== undefined && found === value;
      };
    case "!=":
      return (fields) => (fields(path) ?? "") !== value;
    default: {
      const matches = value === undefined ? undefined : compileRegexp(value);
      return matches === undefined ? () => false : (fields) => matches(fields(path) ?? "");
    }
  }
}
