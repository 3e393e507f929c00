import type { CharacterClass } from "./regexp-class.ts";
import { type Assertion, parseRegexp, type RegexpNode, RegexpSyntaxError } from "./regexp-syntax.ts";

/** Tells whether a text has a match anywhere. */
export type Matcher = (text: string) => boolean;

/** Longest expression, in characters. Decision: bounds the time that compiling takes. */
const expressionCharactersMax = 16_384;

/** Largest program, in instructions. Decision: bounds the time that one character of a text costs. */
const instructionsMax = 10_000;

/** How many nodes may be turned into instructions, since empty ones add none. */
const nodesMax = 4 * instructionsMax;

/**
 * Compiles a regular expression of RE2's syntax.
 *
 * JavaScript's own engine backtracks, so that a client could stop the whole process with `(a+)+$`; this one runs all
 * alternatives side by side and never looks at a character twice.
 *
 * @returns undefined when the expression is malformed or too large.
 *
 * Cost: a match takes time proportional to the length of the text times the length of the expression.
 *
 * @source R. Cox, "Regular Expression Matching: the Virtual Machine Approach" (Pike's algorithm); syntax as Go regexp
 */
export function compileRegexp(source: string): Matcher | undefined {
  if (source.length > expressionCharactersMax) {
    return undefined;
  }
  try {
    const { instructions } = new Program(parseRegexp(source));
    const threads = new Threads(instructions.length);
    return (text) => {
      threads.clear();
      return runProgram(instructions, threads, text);
    };
  } catch (error) {
    if (error instanceof RegexpSyntaxError) {
      return undefined;
    }
    throw error;
  }
}

type Instruction =
  | { readonly op: "character"; readonly class: CharacterClass }
  | { readonly op: "assertion"; readonly assertion: Assertion }
  /** Goes on at the next instruction and at `to`. */
  | { readonly op: "split"; to: number }
  | { readonly op: "jump"; to: number }
  | { readonly op: "match" };

class Program {
  readonly instructions: Instruction[] = [];
  #nodes = 0;

  constructor(node: RegexpNode) {
    this.#emit(node);
    this.#add({ op: "match" });
  }

  #add<I extends Instruction>(instruction: I): I {
    if (this.instructions.length >= instructionsMax) {
      throw new RegexpSyntaxError("expression too large");
    }
    this.instructions.push(instruction);
    return instruction;
  }

  get #end(): number {
    return this.instructions.length;
  }

  #emit(node: RegexpNode): void {
    this.#nodes += 1;
    if (this.#nodes > nodesMax) {
      throw new RegexpSyntaxError("expression too large");
    }
    switch (node.kind) {
      case "character":
        this.#add({ op: "character", class: node.class });
        return;
      case "assertion":
        this.#add({ op: "assertion", assertion: node.assertion });
        return;
      case "sequence":
        for (const part of node.parts) {
          this.#emit(part);
        }
        return;
      case "alternatives":
        this.#emitAlternatives(node.parts);
        return;
      case "repeat":
        this.#emitRepeat(node.part, node.min, node.max);
    }
  }

  #emitAlternatives(parts: readonly RegexpNode[]): void {
    const exits: { to: number }[] = [];
    for (const [index, part] of parts.entries()) {
      const isLast = index === parts.length - 1;
      const split = isLast ? undefined : this.#add({ op: "split", to: 0 });
      this.#emit(part);
      if (split !== undefined) {
        exits.push(this.#add({ op: "jump", to: 0 }));
        split.to = this.#end;
      }
    }
    for (const exit of exits) {
      exit.to = this.#end;
    }
  }

  #emitRepeat(part: RegexpNode, min: number, max: number): void {
    for (let count = 0; count < min; count += 1) {
      this.#emit(part);
    }
    if (max === Infinity) {
      const start = this.#end;
      const split = this.#add({ op: "split", to: 0 });
      this.#emit(part);
      this.#add({ op: "jump", to: start });
      split.to = this.#end;
      return;
    }
    const splits: { to: number }[] = [];
    for (let count = min; count < max; count += 1) {
      splits.push(this.#add({ op: "split", to: 0 }));
      this.#emit(part);
    }
    for (const split of splits) {
      split.to = this.#end;
    }
  }
}

/** Instructions that wait for the next character, each at most once. */
class Threads {
  readonly waiting: number[] = [];
  readonly #seen: Uint8Array;
  readonly #visited: number[] = [];

  constructor(size: number) {
    this.#seen = new Uint8Array(size);
  }

  /** Notes an instruction, unless it has been noted since the last clear. */
  visit(at: number): boolean {
    if (this.#seen[at] !== 0) {
      return false;
    }
    this.#seen[at] = 1;
    this.#visited.push(at);
    return true;
  }

  clear(): void {
    for (const at of this.#visited) {
      this.#seen[at] = 0;
    }
    this.#visited.length = 0;
    this.waiting.length = 0;
  }
}

function runProgram(instructions: readonly Instruction[], threads: Threads, text: string): boolean {
  const pending: number[] = [];
  let before: number | undefined;
  for (let at = 0; ; ) {
    const character = text.codePointAt(at);
    // A match may start anywhere, so that a new thread starts before every character.
    pending.push(0);
    if (follow(instructions, pending, threads, before, character)) {
      return true;
    }
    if (character === undefined) {
      return false;
    }
    for (const waiting of threads.waiting) {
      const instruction = instructions[waiting];
      if (instruction?.op === "character" && instruction.class.has(character)) {
        pending.push(waiting + 1);
      }
    }
    threads.clear();
    before = character;
    at += character > 0xffff ? 2 : 1;
  }
}

/** Follows everything that takes no character. Answers whether the expression matched. */
function follow(
  instructions: readonly Instruction[],
  pending: number[],
  threads: Threads,
  before: number | undefined,
  after: number | undefined,
): boolean {
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    const instruction = instructions[at];
    if (instruction === undefined || !threads.visit(at)) {
      continue;
    }
    switch (instruction.op) {
      case "match":
        pending.length = 0;
        return true;
      case "jump":
        pending.push(instruction.to);
        break;
      case "split":
        pending.push(instruction.to, at + 1);
        break;
      case "assertion":
        if (holds(instruction.assertion, before, after)) {
          pending.push(at + 1);
        }
        break;
      case "character":
        threads.waiting.push(at);
    }
  }
  return false;
}

function holds(assertion: Assertion, before: number | undefined, after: number | undefined): boolean {
  switch (assertion) {
    case "text-start":
      return before === undefined;
    case "text-end":
      return after === undefined;
    case "line-start":
      return before === undefined || before === newline;
    case "line-end":
      return after === undefined || after === newline;
    default:
      return (isWordCharacter(before) !== isWordCharacter(after)) === (assertion === "word-boundary");
  }
}

const newline = 0x0a;

function isWordCharacter(codePoint: number | undefined): boolean {
  return codePoint !== undefined && codePoint < 0x80 && /^\w$/.test(String.fromCharCode(codePoint));
}
