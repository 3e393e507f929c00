import {
  asciiClasses,
  type CharacterClass,
  type ClassItem,
  findUnicodeClass,
  makeClass,
  perlClasses,
  rangeText,
  singleCharacter,
} from "./regexp-class.ts";

/** Places that match without taking a character. */
export type Assertion = "text-start" | "text-end" | "line-start" | "line-end" | "word-boundary" | "no-word-boundary";

/** A regular expression, taken apart. Groups leave no trace, since only whether it matches is asked. */
export type RegexpNode =
  | { readonly kind: "character"; readonly class: CharacterClass }
  | { readonly kind: "assertion"; readonly assertion: Assertion }
  | { readonly kind: "sequence"; readonly parts: readonly RegexpNode[] }
  | { readonly kind: "alternatives"; readonly parts: readonly RegexpNode[] }
  | RepeatNode;

export interface RepeatNode {
  readonly kind: "repeat";
  readonly part: RegexpNode;
  readonly min: number;
  /** Infinity for no upper bound. */
  readonly max: number;
}

/** The expression is not RE2. */
export class RegexpSyntaxError extends Error {}

/** @source Go regexp/syntax/parse.go `repeat`, `ErrInvalidRepeatSize` */
const repeatMax = 1000;
/** @source Go regexp/syntax/parse.go `maxHeight` */
const depthMax = 1000;
const codePointMax = 0x10_ffff;

const controlEscapes: Readonly<Record<string, number>> = { a: 0x07, f: 0x0c, n: 0x0a, r: 0x0d, t: 0x09, v: 0x0b };
const assertionEscapes: Readonly<Record<string, Assertion>> = {
  A: "text-start",
  z: "text-end",
  b: "word-boundary",
  B: "no-word-boundary",
};

interface Flags {
  readonly foldCase: boolean;
  readonly multiLine: boolean;
  readonly dotAll: boolean;
}

/**
 * Parses a regular expression of RE2's syntax in Perl flavour, which is what Go compiles by default. There are no
 * back-references and no look-around in it.
 *
 * Differs from Go only in that `\p{…}` also takes the short names of scripts.
 *
 * @throws {@link RegexpSyntaxError}
 * @source RE2 doc/syntax.txt; Go regexp/syntax/parse.go `parse`
 */
export function parseRegexp(source: string): RegexpNode {
  return new RegexpParser(Array.from(source)).parse();
}

class RegexpParser {
  readonly #characters: readonly string[];
  #at = 0;
  #depth = 0;
  #flags: Flags = { foldCase: false, multiLine: false, dotAll: false };

  constructor(characters: readonly string[]) {
    this.#characters = characters;
  }

  parse(): RegexpNode {
    const node = this.#alternatives();
    if (this.#peek() !== undefined) {
      throw new RegexpSyntaxError("unexpected )");
    }
    return node;
  }

  #alternatives(): RegexpNode {
    this.#depth += 1;
    if (this.#depth > depthMax) {
      throw new RegexpSyntaxError("expression nests too deeply");
    }
    const parts = [this.#sequence()];
    while (this.#take("|")) {
      parts.push(this.#sequence());
    }
    this.#depth -= 1;
    const [only] = parts;
    return parts.length === 1 && only !== undefined ? only : { kind: "alternatives", parts };
  }

  #sequence(): RegexpNode {
    const parts: RegexpNode[] = [];
    let afterRepeat = false;
    for (let next = this.#peek(); next !== undefined && next !== "|" && next !== ")"; next = this.#peek()) {
      const bounds = this.#repetition();
      if (bounds !== undefined) {
        const part = parts.pop();
        if (part === undefined) {
          throw new RegexpSyntaxError("missing argument to repetition operator");
        }
        if (afterRepeat) {
          throw new RegexpSyntaxError("invalid nested repetition operator");
        }
        parts.push(makeRepeat(part, bounds));
        afterRepeat = true;
      } else {
        parts.push(...this.#atom());
        afterRepeat = false;
      }
    }
    return { kind: "sequence", parts };
  }

  /** Reads `*`, `+`, `?` or `{n,m}`; a brace that starts no repetition stands for itself. */
  #repetition(): { min: number; max: number } | undefined {
    const start = this.#at;
    const bounds = this.#take("*")
      ? { min: 0, max: Infinity }
      : this.#take("+")
        ? { min: 1, max: Infinity }
        : this.#take("?")
          ? { min: 0, max: 1 }
          : this.#take("{")
            ? this.#bounds()
            : undefined;
    if (bounds === undefined) {
      this.#at = start;
      return undefined;
    }
    this.#take("?");
    return bounds;
  }

  #bounds(): { min: number; max: number } | undefined {
    const min = this.#integer();
    if (min === undefined) {
      return undefined;
    }
    let max: number | undefined = min;
    if (this.#take(",")) {
      max = this.#peek() === "}" ? Infinity : this.#integer();
    }
    if (max === undefined || !this.#take("}")) {
      return undefined;
    }
    if (min > repeatMax || (max !== Infinity && (max > repeatMax || max < min))) {
      throw new RegexpSyntaxError("invalid repeat count");
    }
    return { min, max };
  }

  /** Reads decimal digits without a leading zero. */
  #integer(): number | undefined {
    const start = this.#at;
    while (/^[0-9]$/.test(this.#peek() ?? "")) {
      this.#at += 1;
    }
    const digits = this.#characters.slice(start, this.#at).join("");
    return /^(?:0|[1-9]\d*)$/.test(digits) ? Number(digits) : undefined;
  }

  #atom(): RegexpNode[] {
    const character = this.#next();
    switch (character) {
      case "(":
        return this.#group();
      case "[":
        return [{ kind: "character", class: this.#class() }];
      case ".":
        return [{ kind: "character", class: this.#flags.dotAll ? anyCharacter : anyButNewline }];
      case "^":
        return [{ kind: "assertion", assertion: this.#flags.multiLine ? "line-start" : "text-start" }];
      case "$":
        return [{ kind: "assertion", assertion: this.#flags.multiLine ? "line-end" : "text-end" }];
      case "\\":
        return this.#escape();
      default:
        return [this.#literal(character)];
    }
  }

  /** Reads what follows an opening parenthesis. A group of flags only, `(?i)`, yields nothing. */
  #group(): RegexpNode[] {
    const outer = this.#flags;
    if (this.#take("?")) {
      if (this.#take("P") || (this.#peek() === "<" && !["=", "!"].includes(this.#peek(1) ?? ""))) {
        this.#groupName();
      } else if (this.#groupFlags() === "rest") {
        return [];
      }
    }
    const node = this.#alternatives();
    if (!this.#take(")")) {
      throw new RegexpSyntaxError("missing closing )");
    }
    this.#flags = outer;
    return [node];
  }

  readonly #names = new Set<string>();

  #groupName(): void {
    const match = /^<([\p{L}\p{M}\p{N}\p{P}\p{S}]*?)>/u.exec(this.#characters.slice(this.#at).join(""));
    const name = match?.[1] ?? "";
    if (!/^[0-9A-Za-z_]+$/.test(name) || this.#names.has(name)) {
      throw new RegexpSyntaxError("invalid named capture");
    }
    this.#names.add(name);
    this.#at += name.length + 2;
  }

  /** Reads `i-s:` or `i-s)`: flags for the group, or for the rest of the group around it. */
  #groupFlags(): "group" | "rest" {
    const flags = { foldCase: this.#flags.foldCase, multiLine: this.#flags.multiLine, dotAll: this.#flags.dotAll };
    let value = true;
    let named = false;
    for (;;) {
      const character = this.#next();
      switch (character) {
        case "i":
          flags.foldCase = value;
          named = true;
          break;
        case "m":
          flags.multiLine = value;
          named = true;
          break;
        case "s":
          flags.dotAll = value;
          named = true;
          break;
        case "U":
          named = true;
          break;
        case "-":
          if (!value) {
            throw new RegexpSyntaxError("invalid or unsupported Perl syntax");
          }
          value = false;
          named = false;
          break;
        case ":":
        case ")":
          if (!value && !named) {
            throw new RegexpSyntaxError("missing argument to flags");
          }
          this.#flags = flags;
          return character === ":" ? "group" : "rest";
        default:
          throw new RegexpSyntaxError("invalid or unsupported Perl syntax");
      }
    }
  }

  #escape(): RegexpNode[] {
    const character = this.#peek();
    const assertion = assertionEscapes[character ?? ""];
    if (assertion !== undefined) {
      this.#at += 1;
      return [{ kind: "assertion", assertion }];
    }
    if (this.#take("Q")) {
      return this.#quoted();
    }
    const item = this.#classEscape();
    if (item !== undefined) {
      return [{ kind: "character", class: makeClass([item], { negated: false, foldCase: this.#flags.foldCase }) }];
    }
    return [this.#literal(String.fromCodePoint(this.#characterEscape()))];
  }

  /** Reads up to `\E` or to the end; every character stands for itself. */
  #quoted(): RegexpNode[] {
    const literals: RegexpNode[] = [];
    while (this.#peek() !== undefined) {
      if (this.#peek() === "\\" && this.#peek(1) === "E") {
        this.#at += 2;
        break;
      }
      literals.push(this.#literal(this.#next()));
    }
    return literals;
  }

  /** Reads what follows a backslash if it is a class, such as `\d` or `\p{Greek}`. */
  #classEscape(): ClassItem | undefined {
    const character = this.#peek() ?? "";
    const lower = character.toLowerCase();
    const perl = perlClasses[lower];
    if (perl !== undefined && character.length === 1 && lower.length === 1) {
      this.#at += 1;
      return { text: perl, negated: character !== lower };
    }
    if (character !== "p" && character !== "P") {
      return undefined;
    }
    this.#at += 1;
    let name = this.#next();
    if (name === "{") {
      const end = this.#characters.indexOf("}", this.#at);
      if (end < 0) {
        throw new RegexpSyntaxError("invalid character class range");
      }
      name = this.#characters.slice(this.#at, end).join("");
      this.#at = end + 1;
    }
    const caret = name.startsWith("^");
    const text = findUnicodeClass(caret ? name.slice(1) : name);
    if (text === undefined) {
      throw new RegexpSyntaxError("invalid character class range");
    }
    return { text, negated: (character === "P") !== caret };
  }

  /** Reads what follows a backslash as one character. */
  #characterEscape(): number {
    const character = this.#next();
    const control = controlEscapes[character];
    if (control !== undefined) {
      return control;
    }
    if (/^[1-7]$/.test(character) && !/^[0-7]$/.test(this.#peek() ?? "")) {
      throw new RegexpSyntaxError("invalid escape sequence");
    }
    if (/^[0-7]$/.test(character)) {
      let digits = character;
      while (digits.length < 3 && /^[0-7]$/.test(this.#peek() ?? "")) {
        digits += this.#next();
      }
      return Number.parseInt(digits, 8);
    }
    if (character === "x") {
      return this.#hexEscape();
    }
    if (/^[^\u{80}-\u{10ffff}0-9A-Za-z]$/u.test(character)) {
      return character.charCodeAt(0);
    }
    throw new RegexpSyntaxError("invalid escape sequence");
  }

  #hexEscape(): number {
    let digits = "";
    if (this.#take("{")) {
      for (let character = this.#next(); character !== "}"; character = this.#next()) {
        digits += character;
      }
    } else {
      digits = this.#next() + this.#next();
    }
    const value = /^[0-9A-Fa-f]+$/.test(digits) ? Number.parseInt(digits, 16) : Infinity;
    if (value > codePointMax) {
      throw new RegexpSyntaxError("invalid escape sequence");
    }
    return value;
  }

  /** Reads a class in brackets, after the opening one. */
  #class(): CharacterClass {
    const negated = this.#take("^");
    const items: ClassItem[] = [];
    for (let first = true; first || this.#peek() !== "]"; first = false) {
      const item = this.#asciiClass() ?? this.#classEscapeInBrackets() ?? this.#range();
      items.push(item);
    }
    this.#at += 1;
    return makeClass(items, { negated, foldCase: this.#flags.foldCase });
  }

  /** Reads `[:alpha:]` or `[:^alpha:]`; a bracket and a colon that are never closed stand for themselves. */
  #asciiClass(): ClassItem | undefined {
    if (this.#peek() !== "[" || this.#peek(1) !== ":") {
      return undefined;
    }
    const start = this.#at + 2;
    let end = start;
    while (end < this.#characters.length && !(this.#characters[end] === ":" && this.#characters[end + 1] === "]")) {
      end += 1;
    }
    if (end >= this.#characters.length) {
      return undefined;
    }
    const name = this.#characters.slice(start, end).join("");
    const negated = name.startsWith("^");
    const text = asciiClasses[negated ? name.slice(1) : name];
    if (text === undefined) {
      throw new RegexpSyntaxError("invalid character class range");
    }
    this.#at = end + 2;
    return { text, negated };
  }

  #classEscapeInBrackets(): ClassItem | undefined {
    if (this.#peek() !== "\\") {
      return undefined;
    }
    this.#at += 1;
    const item = this.#classEscape();
    if (item === undefined) {
      this.#at -= 1;
    }
    return item;
  }

  #range(): ClassItem {
    const low = this.#classCharacter();
    let high = low;
    if (this.#peek() === "-" && this.#peek(1) !== undefined && this.#peek(1) !== "]") {
      this.#at += 1;
      high = this.#classCharacter();
      if (high < low) {
        throw new RegexpSyntaxError("invalid character class range");
      }
    }
    return { text: rangeText(low, high), negated: false };
  }

  #classCharacter(): number {
    const character = this.#next();
    return character === "\\" ? this.#characterEscape() : (character.codePointAt(0) ?? 0);
  }

  #literal(character: string): RegexpNode {
    return { kind: "character", class: singleCharacter(character.codePointAt(0) ?? 0, this.#flags) };
  }

  #peek(ahead = 0): string | undefined {
    return this.#characters[this.#at + ahead];
  }

  #take(character: string): boolean {
    const found = this.#peek() === character;
    this.#at += found ? 1 : 0;
    return found;
  }

  #next(): string {
    const character = this.#peek();
    if (character === undefined) {
      throw new RegexpSyntaxError("unexpected end of expression");
    }
    this.#at += 1;
    return character;
  }
}

const anyCharacter: CharacterClass = { has: () => true };
const anyButNewline: CharacterClass = { has: (codePoint) => codePoint !== 0x0a };

function makeRepeat(part: RegexpNode, { min, max }: { readonly min: number; readonly max: number }): RepeatNode {
  const node: RepeatNode = { kind: "repeat", part, min, max };
  if ((min >= 2 || (max >= 2 && max !== Infinity)) && !repeatsWithin(node, repeatMax)) {
    throw new RegexpSyntaxError("invalid repeat count");
  }
  return node;
}

/** Whether counted repetitions inside each other multiply to no more than `limit`. @source Go regexp/syntax/parse.go `repeatIsValid` */
function repeatsWithin(node: RegexpNode, limit: number): boolean {
  switch (node.kind) {
    case "sequence":
    case "alternatives":
      return node.parts.every((part) => repeatsWithin(part, limit));
    case "repeat": {
      if (!isCounted(node)) {
        return repeatsWithin(node.part, limit);
      }
      const count = node.max === Infinity ? node.min : node.max;
      if (node.max === 0) {
        return true;
      }
      return count <= limit && repeatsWithin(node.part, count > 0 ? Math.trunc(limit / count) : limit);
    }
    default:
      return true;
  }
}

function isCounted({ min, max }: RepeatNode): boolean {
  return !(min <= 1 && max === Infinity) && !(min === 0 && max === 1);
}
