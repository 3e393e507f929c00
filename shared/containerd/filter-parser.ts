import { ErrorKind, type FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { FilterScanner, inputEnd, type Token } from "./filter-scanner.ts";
import { unquoteFilterLiteral } from "./filter-unquote.ts";

/** What a selector asks of its field. */
export type FilterOperator = "present" | "==" | "!=" | "~=";

/** One condition of a filter. */
export interface Selector {
  readonly path: readonly string[];
  readonly operator: FilterOperator;
  /** What to compare with; undefined when the filter names bytes that are no UTF-8 and so equal nothing. */
  readonly value: string | undefined;
}

const operators: ReadonlySet<string> = new Set(["==", "!=", "~="]);

/**
 * Parses one filter: selectors with commas between them, all of which must hold.
 *
 * @param input - Not empty.
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text; it shows a character where containerd shows a
 *   byte, which differs only outside ASCII.
 * @source containerd v2.3.4 pkg/filters/parser.go `parser`
 */
export function parseFilter(input: string): Selector[] {
  return new FilterParser(input).selectors();
}

class FilterParser {
  readonly #characters: readonly string[];
  readonly #scanner: FilterScanner;

  constructor(input: string) {
    this.#characters = Array.from(input);
    this.#scanner = new FilterScanner(this.#characters);
  }

  selectors(): Selector[] {
    const selectors = [this.#selector()];
    for (;;) {
      const next = this.#scanner.peek();
      if (next === inputEnd) {
        return selectors;
      }
      if (next !== ",") {
        throw this.#error(this.#scanner.position, `unexpected input: ${next ?? "\ufffd"}`);
      }
      this.#scanner.scan();
      selectors.push(this.#selector());
    }
  }

  #selector(): Selector {
    const path = this.#path();
    const next = this.#scanner.peek();
    if (next === "," || next === inputEnd) {
      return { path, operator: "present", value: "" };
    }
    const operator = this.#operator();
    return { path, operator, value: this.#value({ anyQuote: operator === "~=" }) };
  }

  #path(): string[] {
    const path = [this.#field()];
    while (this.#scanner.peek() === ".") {
      this.#scanner.scan();
      path.push(this.#field());
    }
    return path;
  }

  #field(): string {
    const token = this.#scanner.scan();
    switch (token.kind) {
      case "field":
        return token.text;
      case "quoted":
        return this.#unquote(token, { anyQuote: false }).toString("utf8");
      default:
        throw this.#unexpected(token, "expected field or quoted");
    }
  }

  #operator(): FilterOperator {
    const token = this.#scanner.scan();
    if (token.kind !== "operator") {
      throw this.#unexpected(token, 'expected an operator ("=="|"!="|"~=")');
    }
    if (!operators.has(token.text)) {
      throw this.#error(token.position, `unsupported operator ${quote(token.text)}`);
    }
    return token.text as FilterOperator;
  }

  #value(quotes: { readonly anyQuote: boolean }): string | undefined {
    const token = this.#scanner.scan();
    switch (token.kind) {
      case "value":
      case "field":
        return token.text;
      case "quoted":
        return decodeUtf8(this.#unquote(token, quotes));
      default:
        throw this.#unexpected(token, "expected value or quoted");
    }
  }

  #unquote(token: Token, { anyQuote }: { readonly anyQuote: boolean }): Buffer {
    if (!anyQuote && !token.text.startsWith('"')) {
      throw this.#error(token.position, "invalid quote encountered");
    }
    const bytes = unquoteFilterLiteral(token.text);
    if (bytes === undefined) {
      throw this.#error(token.position, "unquoting failed: quote syntax error");
    }
    return bytes;
  }

  #unexpected(token: Token, expectation: string): FlotillaError {
    return this.#error(token.position, token.kind === "illegal" ? this.#scanner.fault : expectation);
  }

  #error(position: number, message: string): FlotillaError {
    const all = this.#characters;
    const at = all[position];
    const place =
      at === undefined
        ? all.join("")
        : `${all.slice(0, position).join("")} >|${at}|< ${all.slice(position + 1).join("")}`;
    return failure(ErrorKind.InvalidArgument, `filters: parse error: [${place}]: ${message}`);
  }
}

function decodeUtf8(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
