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
 * @throws Error with the text that Go gives, such as `flag provided but not defined: -bogus`.
 * @source Go flag/flag.go `(*FlagSet).parseOne`
 */
export function parseArguments(argv: readonly string[], flags: readonly (ValueFlag | SwitchFlag)[]): ParsedArguments {
  const values = new Map<string, string>();
  const switches = new Set<string>();
  let next = 0;
  for (;;) {
    const argument = argv[next];
    if (argument === undefined || !/^-./s.test(argument)) {
      break;
    }
    next += 1;
    if (argument === "--") {
      break;
    }
    const written = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(argument);
    const name = written?.[1];
    if (name === undefined) {
      throw new Error(`bad flag syntax: ${argument}`);
    }
    const flag = flags.find(({ names }) => names.includes(name));
    if (flag === undefined) {
      throw new Error(`flag provided but not defined: -${name}`);
    }
    let value = written?.[2];
    if ("isSwitch" in flag) {
      setSwitch(switches, flag.names[0], name, value ?? "true");
      continue;
    }
    if (value === undefined) {
      value = argv[next];
      next += 1;
    }
    if (value === undefined) {
      throw new Error(`flag needs an argument: -${name}`);
    }
    values.set(flag.names[0], value);
  }
  return { values, switches, rest: argv.slice(next) };
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
