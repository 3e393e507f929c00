import type { SwitchFlag, ValueFlag } from "#config/flag-syntax.ts";

/** A flag with what the help says of it. */
export type DescribedFlag = (ValueFlag | SwitchFlag) & {
  readonly usage: string;
  /** Shown in the help as what holds without the flag. */
  readonly defaultText?: string;
};

/** What a command needs to run. */
export interface CommandInput {
  /** Values of the flags of the command itself, by name. */
  readonly values: ReadonlyMap<string, string>;
  /** The switches of the command itself that are on. */
  readonly switches: ReadonlySet<string>;
  /** Values of the program's flags, by name. */
  readonly globals: ReadonlyMap<string, string>;
  /** What follows the flags. */
  readonly rest: readonly string[];
}

/** A command of the program, or the program itself. */
export interface Command {
  readonly names: readonly [string, ...string[]];
  readonly usage: string;
  readonly description?: string;
  readonly flags?: readonly DescribedFlag[];
  readonly commands?: readonly Command[];
  /** Without it, the command shows its help. */
  run?(input: CommandInput): Promise<void>;
}

/** Ends the program with a status and a text of its own on standard error. */
export class CommandExit extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = "CommandExit";
    this.status = status;
  }
}
