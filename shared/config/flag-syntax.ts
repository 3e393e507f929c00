import { parseArgs } from "node:util";

/** A flag that takes a value, by its names without dashes; the first one is the key of its value. */
export interface ValueFlag {
  readonly names: readonly [string, ...string[]];
}

/** A flag that is there or not. */
export interface SwitchFlag {
  readonly names: readonly [string, ...string[]];
  readonly isSwitch: true;
}

export interface ParsedArguments {
  /** Values of the flags that were given, by their first name; the last one wins. */
  readonly values: ReadonlyMap<string, string>;
  /** First names of the switches that were given. */
  readonly switches: ReadonlySet<string>;
  /** What follows the flags: everything from the first argument that is none, or from behind `--`. */
  readonly rest: readonly string[];
}

const truths = new Set(["1", "t", "T", "true", "TRUE", "True"]);
const falsehoods = new Set(["0", "f", "F", "false", "FALSE", "False"]);

/**
 * Splits a command line as Go programs do: one dash or two before a name, the value behind `=` or in the next argument, and no
 * more flags after the first argument that is none.
 *
 * `parseArgs` of Node.js does the splitting. It takes what follows one dash for a group of letters, so it is shown two dashes everywhere, and it
 * finds flags behind other arguments, which are left to the command. Values are those of the command line as it was given.
 *
 * @throws Error with the text that Go gives, such as `flag provided but not defined: -bogus`.
 * @source Go flag/flag.go `(*FlagSet).parseOne`
 */
export function parseArguments(argv: readonly string[], flags: readonly (ValueFlag | SwitchFlag)[]): ParsedArguments {
  const { tokens } = parseArgs({
    args: argv.map((argument) => argument.replace(/^-(?=[^-])/, "--")),
    options: Object.fromEntries(
      flags.flatMap((flag) =>
        flag.names.map((name) => [name, { type: "isSwitch" in flag ? ("boolean" as const) : ("string" as const) }]),
      ),
    ),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values = new Map<string, string>();
  const switches = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== "option") {
      return { values, switches, rest: argv.slice(token.kind === "positional" ? token.index : token.index + 1) };
    }
    const { name, index, inlineValue } = token;
    if (!/^[^-=]/.test(name)) {
      throw new Error(`bad flag syntax: ${argv[index] ?? ""}`);
    }
    const flag = flags.find(({ names }) => names.includes(name));
    if (flag === undefined) {
      throw new Error(`flag provided but not defined: -${name}`);
    }
    const value = inlineValue === false ? argv[index + 1] : token.value;
    if ("isSwitch" in flag) {
      setSwitch(switches, flag.names[0], name, inlineValue === true ? token.value : "true");
    } else if (value === undefined) {
      throw new Error(`flag needs an argument: -${name}`);
    } else {
      values.set(flag.names[0], value);
    }
  }
  return { values, switches, rest: [] };
}

function setSwitch(switches: Set<string>, key: string, name: string, value: string): void {
  if (truths.has(value)) {
    switches.add(key);
  } else if (falsehoods.has(value)) {
    switches.delete(key);
  } else {
    throw new Error(`invalid boolean value ${JSON.stringify(value)} for -${name}: parse error`);
  }
}
