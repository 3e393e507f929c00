/** A set of characters that a regular expression may ask for at one place. */
export interface CharacterClass {
  has(codePoint: number): boolean;
}

/**
 * A part of a class: JavaScript class text, such as `a-z` or `\p{Script=Greek}`, that is negated after case has been
 * folded, as RE2 does it.
 */
export interface ClassItem {
  readonly text: string;
  readonly negated: boolean;
}

const asciiSize = 128;

/**
 * Makes the class that holds what any of its items hold, or everything else.
 *
 * The items are tested by JavaScript regular expressions of one character each, which take constant time; answers for
 * ASCII are kept.
 *
 * @param foldCase - Whether `k`, `K` and the Kelvin sign are the same (Unicode simple case folding, as in RE2).
 */
export function makeClass(
  items: readonly ClassItem[],
  { negated, foldCase }: { readonly negated: boolean; readonly foldCase: boolean },
): CharacterClass {
  const flags = foldCase ? "iu" : "u";
  const union = items.filter((item) => !item.negated).map((item) => item.text);
  const tests = [
    { pattern: new RegExp(`[${union.join("")}]`, flags), expected: true },
    ...items
      .filter((item) => item.negated)
      .map((item) => ({ pattern: new RegExp(`[${item.text}]`, flags), expected: false })),
  ];
  const decide = (codePoint: number): boolean => {
    const character = String.fromCodePoint(codePoint);
    return tests.some(({ pattern, expected }) => pattern.test(character) === expected) !== negated;
  };
  const ascii: (boolean | undefined)[] = Array.from({ length: asciiSize });
  return {
    has: (codePoint) => (codePoint < asciiSize ? (ascii[codePoint] ??= decide(codePoint)) : decide(codePoint)),
  };
}

/** The class of one character and, when case is folded, of its other cases. */
export function singleCharacter(codePoint: number, { foldCase }: { readonly foldCase: boolean }): CharacterClass {
  return foldCase
    ? makeClass([{ text: rangeText(codePoint, codePoint), negated: false }], { negated: false, foldCase })
    : { has: (candidate) => candidate === codePoint };
}

/** The characters from `low` to `high`, both included, as class text. */
export function rangeText(low: number, high: number): string {
  return `${escapeCodePoint(low)}-${escapeCodePoint(high)}`;
}

function escapeCodePoint(codePoint: number): string {
  return `\\u{${codePoint.toString(16)}}`;
}

/** `\d`, `\s` and `\w` of RE2, which know ASCII only. @source RE2 doc/syntax.txt "Perl character classes" */
export const perlClasses: Readonly<Record<string, string>> = {
  d: "0-9",
  s: "\\t\\n\\f\\r ",
  w: "0-9A-Za-z_",
};

/** @source RE2 doc/syntax.txt "ASCII character classes" */
export const asciiClasses: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  ascii: "\\u{0}-\\u{7f}",
  blank: "\\t ",
  cntrl: "\\u{0}-\\u{1f}\\u{7f}",
  digit: "0-9",
  graph: "!-~",
  lower: "a-z",
  print: " -~",
  punct: "!-\\/:-@\\[-`\\{-~",
  space: "\\t\\n\\v\\f\\r ",
  upper: "A-Z",
  word: "0-9A-Za-z_",
  xdigit: "0-9A-Fa-f",
};

/**
 * The class text of `\p{name}`: a general category or a script.
 *
 * @returns undefined when there is no class of that name.
 */
export function findUnicodeClass(name: string): string | undefined {
  if (name === "Any") {
    return "\\u{0}-\\u{10ffff}";
  }
  if (!/^[A-Za-z_]+$/.test(name)) {
    return undefined;
  }
  return [`\\p{General_Category=${name}}`, `\\p{Script=${name}}`].find(isClassText);
}

function isClassText(text: string): boolean {
  try {
    return new RegExp(`[${text}]`, "u").source.length > 0;
  } catch {
    return false;
  }
}
