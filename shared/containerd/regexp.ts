import { createRequire } from "node:module";

/** Tells whether a text has a match anywhere. */
export type Matcher = (text: string) => boolean;

type Engine = typeof import("re2js");

/** Longest expression, in characters. Decision: bounds the time that compiling takes. */
const expressionCharactersMax = 16_384;

/** Largest program, in instructions. Decision: bounds the time that one character of a text costs. */
const instructionsMax = 10_000;

let loaded: Engine | undefined;

/** Loaded when first needed: its tables take 7 MiB, and few clients filter by expression. */
function engine(): Engine {
  loaded ??= createRequire(import.meta.url)("re2js") as Engine;
  return loaded;
}

/**
 * Compiles a regular expression as Go does. JavaScript's own engine backtracks, so that a client could stop the whole process with
 * `(a+)+$`; RE2 never looks at a character twice.
 *
 * @returns undefined when the expression is malformed or too large.
 *
 * Cost: a match takes time proportional to the length of the text times the length of the expression.
 */
export function compileRegexp(source: string): Matcher | undefined {
  if (source.length > expressionCharactersMax) {
    return undefined;
  }
  const { RE2JS, RE2JSException } = engine();
  try {
    const pattern = RE2JS.compile(source);
    return pattern.programSize() > instructionsMax ? undefined : (text) => pattern.test(text);
  } catch (error) {
    if (error instanceof RE2JSException) {
      return undefined;
    }
    throw error;
  }
}
