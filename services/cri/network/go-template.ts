import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** What a template is filled with, by the names of its fields. */
export type TemplateData = Readonly<Record<string, string | readonly string[]>>;

interface Scope {
  readonly data: TemplateData;
  /** What `.` means. */
  readonly dot: unknown;
  readonly variables: ReadonlyMap<string, unknown>;
}

type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "value"; readonly expression: string }
  | {
      readonly kind: "range" | "if";
      readonly variables: readonly string[];
      readonly expression: string;
      readonly body: readonly Node[];
      readonly otherwise: readonly Node[];
    };

/** Deepest that actions may be nested. */
const depthMax = 32;

/**
 * Fills in a template of Go's text/template as far as configurations of CNI use it: fields, variables, `range`, `if`, `else` and `end`, comments, and markers
 * that trim blanks. Pipelines and functions are refused.
 *
 * @throws {@link FlotillaError} `unknown` for what is refused, unknown or unfinished.
 * @source Go text/template/doc.go; containerd v2.3.4 docs/cri/config.md "CNI Config Template"
 */
export function fillTemplate(source: string, data: TemplateData): string {
  const parser = new Parser(source);
  const nodes = parser.parse(0);
  return render(nodes, { data, dot: data, variables: new Map([["$", data]]) });
}

function render(nodes: readonly Node[], scope: Scope): string {
  return nodes.map((node) => renderNode(node, scope)).join("");
}

function renderNode(node: Node, scope: Scope): string {
  if (node.kind === "text") {
    return node.text;
  }
  const value = evaluate(node.expression, scope);
  if (node.kind === "value") {
    return Array.isArray(value) ? `[${value.join(" ")}]` : String(value);
  }
  const { variables, body, otherwise } = node;
  if (node.kind === "if") {
    return render(isTrue(value) ? body : otherwise, scope);
  }
  if (!Array.isArray(value)) {
    throw unfit(`range can't iterate over ${String(value)}`);
  }
  if (value.length === 0) {
    return render(otherwise, scope);
  }
  return value
    .map((item: unknown, index) => {
      const bound = variables.length === 2 ? [index, item] : [item];
      const inner = new Map([...scope.variables, ...variables.map((name, place) => [name, bound[place]] as const)]);
      return render(body, { ...scope, dot: item, variables: inner });
    })
    .join("");
}

function evaluate(expression: string, { dot, variables }: Scope): unknown {
  const match = /^(\$\w*)?((?:\.\w+)*|\.)$/.exec(expression);
  const [, variable, path = ""] = match ?? [];
  if (match === null || expression === "") {
    throw unfit(`unexpected ${JSON.stringify(expression)} in command`);
  }
  if (variable !== undefined && !variables.has(variable)) {
    throw unfit(`undefined variable ${JSON.stringify(variable)}`);
  }
  let value: unknown = variable === undefined ? dot : variables.get(variable);
  for (const field of path.split(".").filter((part) => part !== "")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, field)) {
      throw unfit(`can't evaluate field ${field}`);
    }
    value = (value as Record<string, unknown>)[field];
  }
  return value;
}

function isTrue(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : value !== "" && value !== 0 && value !== undefined;
}

const action = /\{\{(-?)\s*((?:\/\*[\s\S]*?\*\/)|[^{}]*?)\s*(-?)\}\}/g;
const control = /^(range|if)\s+(?:(\$\w+)(?:\s*,\s*(\$\w+))?\s*:=\s*)?(\S+)$/;

/** Reads a template from left to right. */
class Parser {
  readonly #pieces: { readonly text?: string; readonly action?: string }[] = [];
  #place = 0;

  constructor(source: string) {
    let position = 0;
    let trims = false;
    const text = (piece: string, trimsEnd: boolean): void => {
      const start = trims ? piece.trimStart() : piece;
      this.#pieces.push({ text: trimsEnd ? start.trimEnd() : start });
    };
    for (const match of source.matchAll(action)) {
      const [whole, before, content = "", after] = match;
      text(source.slice(position, match.index), before === "-");
      if (!content.startsWith("/*")) {
        this.#pieces.push({ action: content });
      }
      trims = after === "-";
      position = match.index + whole.length;
    }
    text(source.slice(position), false);
    if (source.slice(position).includes("{{")) {
      throw unfit("unclosed action");
    }
  }

  /** Reads up to the end of the template, or, within an action, up to its `end` or `else`. */
  parse(depth: number): Node[] {
    if (depth > depthMax) {
      throw unfit("actions are nested too deep");
    }
    const nodes: Node[] = [];
    for (;;) {
      const piece = this.#pieces[this.#place];
      if (piece === undefined) {
        if (depth > 0) {
          throw unfit("unexpected EOF");
        }
        return nodes;
      }
      const { action: content } = piece;
      if (content === "end" || content === "else") {
        if (depth === 0) {
          throw unfit(`unexpected {{${content}}}`);
        }
        return nodes;
      }
      this.#place += 1;
      nodes.push(content === undefined ? { kind: "text", text: piece.text ?? "" } : this.#action(content, depth));
    }
  }

  #action(content: string, depth: number): Node {
    const match = control.exec(content);
    if (match === null) {
      return { kind: "value", expression: content };
    }
    const [, kind, first, second, expression = ""] = match;
    const body = this.parse(depth + 1);
    let otherwise: Node[] = [];
    if (this.#pieces[this.#place]?.action === "else") {
      this.#place += 1;
      otherwise = this.parse(depth + 1);
    }
    if (this.#pieces[this.#place]?.action !== "end") {
      throw unfit("unexpected {{else}}");
    }
    this.#place += 1;
    const variables = [first, second].filter((name) => name !== undefined);
    return { kind: kind === "if" ? "if" : "range", variables, expression, body, otherwise };
  }
}

function unfit(reason: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, `template: ${reason}`);
}
