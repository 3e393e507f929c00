/** What the scanner found: a class of token, or a single character that starts none. */
export type TokenKind = "end" | "quoted" | "value" | "field" | "separator" | "operator" | "illegal" | "character";

export interface Token {
  readonly kind: TokenKind;
  /** Index of its first character. */
  readonly position: number;
  readonly text: string;
}

/** What {@link FilterScanner.peek} says at the end of the input. */
export const inputEnd = "";
/** What {@link FilterScanner.peek} says of a character that may not stand in a filter at all. */
export const illegalCharacter = undefined;

/** One character, or {@link inputEnd}, or {@link illegalCharacter}. */
export type Peeked = string | undefined;

const shortEscapes = "abfnrtv\\";
const hexDigitsOf: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };
const octalDigits = 3;

/**
 * Splits a filter into tokens. Whether a run of characters is a field or a value depends on what came before: after an
 * operator everything up to a comma or a space is a value.
 *
 * @source containerd v2.3.4 pkg/filters/scanner.go `scanner`
 */
export class FilterScanner {
  readonly #characters: readonly string[];
  /** Index of the character that was read last. */
  #current = 0;
  #next = 0;
  #expectsValue = false;
  #fault: string | undefined;

  /** @param characters - The filter, one code point an element. */
  constructor(characters: readonly string[]) {
    this.#characters = characters;
  }

  /** Index of the character that the next scan starts with. */
  get position(): number {
    return this.#next;
  }

  /** What was wrong first, once a token was illegal. */
  get fault(): string {
    return this.#fault ?? "";
  }

  /** The next character, which stays where it is. */
  peek(): Peeked {
    const current = this.#current;
    const next = this.#next;
    const character = this.#read();
    this.#current = current;
    this.#next = next;
    return character;
  }

  /** Takes the next token, after white space. */
  scan(): Token {
    let character = this.#read();
    for (;;) {
      const position = this.#current;
      if (character === inputEnd) {
        return { kind: "end", position, text: "" };
      }
      if (character === illegalCharacter) {
        return { kind: "illegal", position, text: "" };
      }
      if (isQuote(character)) {
        const kind = this.#readQuoted(character) ? "quoted" : "illegal";
        return this.#token(kind, position);
      }
      if (character === "," || character === ".") {
        this.#expectsValue = false;
        return this.#token("separator", position);
      }
      if (isOperatorCharacter(character)) {
        this.#readWhile(isOperatorCharacter);
        this.#expectsValue = true;
        return this.#token("operator", position);
      }
      if (isSpace(character)) {
        character = this.#read();
        continue;
      }
      if (this.#expectsValue) {
        this.#readWhile(isValueCharacter);
        this.#expectsValue = false;
        return this.#token("value", position);
      }
      if (isFieldCharacter(character)) {
        this.#readWhile(isFieldCharacter);
        return this.#token("field", position);
      }
      return { kind: "character", position, text: "" };
    }
  }

  #token(kind: TokenKind, position: number): Token {
    return { kind, position, text: this.#characters.slice(position, this.#next).join("") };
  }

  #read(): Peeked {
    if (this.#current >= this.#characters.length) {
      return inputEnd;
    }
    this.#current = this.#next;
    const character = this.#characters[this.#next];
    if (character === undefined) {
      return inputEnd;
    }
    this.#next += 1;
    if (character === "\ufffd" || isLoneSurrogate(character)) {
      return this.#refuse("rune error");
    }
    if (character === "\0") {
      return this.#refuse("unexpected null");
    }
    return character;
  }

  #readWhile(belongs: (character: string) => boolean): void {
    for (let character = this.peek(); character && belongs(character); character = this.peek()) {
      this.#read();
    }
  }

  #readQuoted(quote: string): boolean {
    let legal = true;
    let character = this.#read();
    while (character !== quote) {
      if (character === "\n" || character === inputEnd || character === illegalCharacter) {
        this.#refuse("quoted literal not terminated");
        return false;
      }
      if (character === "\\") {
        const escape = this.#readEscape(quote);
        character = escape.after;
        legal &&= escape.legal;
      } else {
        character = this.#read();
      }
    }
    return legal;
  }

  #readEscape(quote: string): { after: Peeked; legal: boolean } {
    const character = this.#read();
    if (character && (shortEscapes.includes(character) || character === quote)) {
      return { after: this.#read(), legal: true };
    }
    if (character && digitValue(character) < 8) {
      return this.#readDigits(character, 8, octalDigits);
    }
    const hexDigits = hexDigitsOf[character ?? ""];
    if (hexDigits !== undefined) {
      return this.#readDigits(this.#read(), 16, hexDigits);
    }
    this.#refuse("illegal escape sequence");
    return { after: character, legal: false };
  }

  #readDigits(first: Peeked, base: number, count: number): { after: Peeked; legal: boolean } {
    let character = first;
    let missing = count;
    while (missing > 0 && digitValue(character ?? "") < base) {
      character = this.#read();
      missing -= 1;
    }
    if (missing > 0) {
      this.#refuse("illegal numeric escape sequence");
      return { after: character, legal: false };
    }
    return { after: character, legal: true };
  }

  #refuse(fault: string): undefined {
    this.#fault ??= fault;
    return illegalCharacter;
  }
}

/** The value of a hexadecimal digit, or 16 for any other character. */
export function digitValue(character: string): number {
  return /^[0-9A-Fa-f]$/.test(character) ? Number.parseInt(character, 16) : 16;
}

function isQuote(character: string): boolean {
  return character === '"' || character === "/" || character === "|";
}

function isOperatorCharacter(character: string): boolean {
  return character === "=" || character === "!" || character === "~";
}

function isFieldCharacter(character: string): boolean {
  return /^[A-Za-z0-9_]$/.test(character);
}

function isSpace(character: string): boolean {
  return /^\p{White_Space}$/u.test(character);
}

function isValueCharacter(character: string): boolean {
  return character !== "," && !isSpace(character) && /^[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u.test(character);
}

function isLoneSurrogate(character: string): boolean {
  return !character.isWellFormed();
}
