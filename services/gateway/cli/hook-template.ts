import { quote } from "#base/quote.ts";

/** A function that a template may call with texts. */
export interface TemplateFunction {
  readonly parameters: 0 | 1;
  readonly call: (argument?: string) => string;
}

export type TemplateFunctions = ReadonlyMap<string, TemplateFunction>;

/**
 * Fills in a template of Go's text/template as far as hooks use it: calls of functions, with texts or calls in parentheses as
 * arguments, pipelines, comments, and markers that trim the blanks around an action. Conditions, loops and variables are refused.
 *
 * @throws Error `template: oci-hook:<line>: …` for what is refused, unknown or unfinished.
 * @source Go text/template/doc.go
 */
export function renderTemplate(source: string, functions: TemplateFunctions): string {
  let output = "";
  let position = 0;
  let trimNext = false;
  for (;;) {
    const start = source.indexOf("{{", position);
    let text = source.slice(position, start < 0 ? undefined : start);
    if (trimNext) {
      text = text.replace(/^[ \t\r\n]+/, "");
    }
    if (start < 0) {
      return output + text;
    }
    const action = new Action(source, start + 2, functions);
    output += (action.trimsBefore ? text.replace(/[ \t\r\n]+$/, "") : text) + action.evaluate();
    position = action.end;
    trimNext = action.trimsAfter;
  }
}

const trimBefore = /-[ \t\r\n]/y;
const trimmingEnd = /[ \t\r\n]-\}\}/y;
const blanks = /[ \t\r\n]*/y;
const word = /[\p{L}_][\p{L}\p{N}_]*/uy;
const rawText = /`[^`]*`/y;
const quotedText = /"(?:[^"\\\n]|\\.)*"/y;

/** One `{{…}}`, read and evaluated from left to right. */
class Action {
  readonly #source: string;
  readonly #functions: TemplateFunctions;
  #position: number;
  readonly trimsBefore: boolean;
  trimsAfter = false;

  constructor(source: string, start: number, functions: TemplateFunctions) {
    this.#source = source;
    this.#functions = functions;
    this.#position = start;
    this.trimsBefore = this.#take(trimBefore) !== undefined;
  }

  /** Where the text goes on. */
  get end(): number {
    return this.#position;
  }

  evaluate(): string {
    this.#take(blanks);
    if (this.#source.startsWith("/*", this.#position)) {
      const close = this.#source.indexOf("*/", this.#position + 2);
      if (close < 0) {
        throw this.#error("unclosed comment");
      }
      this.#position = close + 2;
      if (!this.#close()) {
        throw this.#error("comment ends before closing delimiter");
      }
      return "";
    }
    const value = this.#pipeline();
    if (!this.#close()) {
      throw this.#unexpected();
    }
    return value;
  }

  #pipeline(): string {
    let value = this.#command(undefined);
    for (;;) {
      const before = this.#position;
      this.#take(blanks);
      if (this.#source[this.#position] !== "|") {
        this.#position = before;
        return value;
      }
      this.#position += 1;
      value = this.#command(value);
    }
  }

  /** @param piped - The value of the command before, which becomes the last argument. */
  #command(piped: string | undefined): string {
    this.#take(blanks);
    const name = this.#take(word);
    if (name === undefined) {
      const value = this.#operand();
      if (value === undefined) {
        throw this.#isAtClose() ? this.#error("missing value for command") : this.#unexpected();
      }
      if (piped !== undefined) {
        throw this.#error("can't give argument to non-function");
      }
      return value;
    }
    const called = this.#functions.get(name);
    if (called === undefined) {
      throw this.#error(`function ${quote(name)} not defined`);
    }
    const args = this.#operands();
    if (piped !== undefined) {
      args.push(piped);
    }
    if (args.length !== called.parameters) {
      throw this.#error(`wrong number of args for ${name}: want ${called.parameters} got ${args.length}`);
    }
    return called.call(args[0]);
  }

  #operands(): string[] {
    const values: string[] = [];
    for (;;) {
      const before = this.#position;
      this.#take(blanks);
      const value = this.#operand() ?? this.#bareCall();
      if (value === undefined) {
        this.#position = before;
        return values;
      }
      values.push(value);
    }
  }

  /** A function without parameters may stand as an argument. */
  #bareCall(): string | undefined {
    const name = this.#take(word);
    if (name === undefined) {
      return undefined;
    }
    const called = this.#functions.get(name);
    if (called === undefined) {
      throw this.#error(`function ${quote(name)} not defined`);
    }
    if (called.parameters !== 0) {
      throw this.#error(`wrong number of args for ${name}: want ${called.parameters} got 0`);
    }
    return called.call();
  }

  #operand(): string | undefined {
    const raw = this.#take(rawText);
    if (raw !== undefined) {
      return raw.slice(1, -1);
    }
    const quoted = this.#take(quotedText);
    if (quoted !== undefined) {
      try {
        return JSON.parse(quoted) as string;
      } catch {
        throw this.#error(`invalid syntax: ${quoted}`);
      }
    }
    if (this.#source[this.#position] !== "(") {
      return undefined;
    }
    this.#position += 1;
    const value = this.#pipeline();
    this.#take(blanks);
    if (this.#source[this.#position] !== ")") {
      throw this.#error("unclosed left paren");
    }
    this.#position += 1;
    return value;
  }

  #close(): boolean {
    if (this.#take(trimmingEnd) !== undefined) {
      this.trimsAfter = true;
      return true;
    }
    this.#take(blanks);
    if (!this.#source.startsWith("}}", this.#position)) {
      return false;
    }
    this.#position += 2;
    return true;
  }

  #isAtClose(): boolean {
    return this.#source.startsWith("}}", this.#position);
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#position;
    const taken = pattern.exec(this.#source)?.[0];
    this.#position += taken?.length ?? 0;
    return taken;
  }

  #unexpected(): Error {
    const rest = this.#source.slice(this.#position);
    return this.#error(rest === "" ? "unclosed action" : `unexpected ${quote(rest.slice(0, 1))} in command`);
  }

  #error(reason: string): Error {
    const line = this.#source.slice(0, this.#position).split("\n").length;
    return new Error(`template: oci-hook:${line}: ${reason}`);
  }
}
