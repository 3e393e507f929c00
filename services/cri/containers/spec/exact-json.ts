/** What a reviver is told of a number besides its value. */
interface SourceContext {
  readonly source?: string;
}

const integer = /^-?\d+$/;

/**
 * Reads JSON without losing anything of its numbers: a whole number too large for a double becomes a bigint.
 *
 * @throws SyntaxError
 */
export function parseExactJson(text: string): unknown {
  return JSON.parse(text, ((_key: string, value: unknown, context?: SourceContext) =>
    typeof value === "number" && !Number.isSafeInteger(value) && integer.test(context?.source ?? "")
      ? BigInt(context?.source ?? "")
      : value) as (key: string, value: unknown) => unknown);
}

/** JSON as it stands in the standard, which the types of the language know nothing of yet. */
const raw = JSON as unknown as { rawJSON(text: string): unknown };

/** Writes JSON; a bigint becomes a number with all its digits. */
export function formatExactJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === "bigint" ? raw.rawJSON(part.toString()) : part,
  );
}
