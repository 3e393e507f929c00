import { errorMessage } from "#base/errors.ts";
import { type ParsedArguments, parseArguments } from "#config/flag-syntax.ts";
import type { DaemonFlags } from "#config/flags.ts";
import { daemonRevision, daemonVersion } from "#fleet/version.ts";
import { type Command, CommandExit } from "./command.ts";
import { formatHelp, helpCommand, helpFlag } from "./help.ts";
import { print } from "./output.ts";
import { makeProgram } from "./program.ts";

export interface CliOptions {
  /** Runs the daemon until it is told to stop. */
  readonly runDaemon: (flags: DaemonFlags) => Promise<void>;
}

/** Status of a request for help on something that does not exist. @source urfave/cli v2.27 help.go `ShowCommandHelp` */
const exitNoHelp = 3;

/**
 * Runs the command line of the program: one of its commands, or the daemon when none is named.
 *
 * Never throws: an error goes to standard error as `flotilla: <text>`, and the status of the process becomes 1.
 *
 * @param argv - Without the program.
 * @source containerd v2.3.4 cmd/containerd/main.go, cmd/containerd/command/main.go `App`
 */
export async function runCli(argv: readonly string[], { runDaemon }: CliOptions): Promise<void> {
  try {
    await runCommand([makeProgram(runDaemon)], argv, new Map());
  } catch (error) {
    const isExit = error instanceof CommandExit;
    process.stderr.write(isExit ? `${error.message}\n` : `flotilla: ${errorMessage(error)}\n`);
    process.exitCode = isExit ? error.status : 1;
  }
}

async function runCommand(
  path: readonly [Command, ...Command[]],
  argv: readonly string[],
  globals: ReadonlyMap<string, string>,
): Promise<void> {
  const command = path[path.length - 1] ?? path[0];
  const isProgram = path.length === 1;
  const parsed = await parseCommandLine(path, argv);
  const [next] = parsed.rest;
  if (parsed.switches.has("help")) {
    await showHelp(path, next);
    return;
  }
  if (parsed.switches.has("version")) {
    // The first words and their order are read by scripts that look for containerd's version.
    await print(["containerd", "github.com/containerd/containerd/v2", daemonVersion(), daemonRevision()].join(" "));
    return;
  }
  const outer = isProgram ? parsed.values : globals;
  const child = command.commands?.find(({ names }) => next !== undefined && names.includes(next));
  if (child !== undefined) {
    await runCommand([...path, child], parsed.rest.slice(1), outer);
  } else if (next !== undefined && helpCommand.names.includes(next)) {
    await showHelp(path, parsed.rest[1]);
  } else if (command.run === undefined || (isProgram && next !== undefined && next !== "")) {
    await showHelp(path, next);
  } else {
    const { values, switches, rest } = parsed;
    await command.run({ values, switches, globals: outer, rest });
  }
}

async function parseCommandLine(
  path: readonly [Command, ...Command[]],
  argv: readonly string[],
): Promise<ParsedArguments> {
  const command = path[path.length - 1] ?? path[0];
  try {
    return parseArguments(argv, [...(command.flags ?? []), helpFlag]);
  } catch (error) {
    await print(`Incorrect Usage: ${errorMessage(error)}\n\n${formatHelp(path)}`);
    throw error;
  }
}

async function showHelp(path: readonly [Command, ...Command[]], topic: string | undefined): Promise<void> {
  const command = path[path.length - 1] ?? path[0];
  if (topic === undefined || topic === "") {
    await print(formatHelp(path));
    return;
  }
  const asked = command.commands?.find(({ names }) => names.includes(topic));
  if (asked === undefined) {
    throw new CommandExit(exitNoHelp, `No help topic for '${topic}'`);
  }
  await print(formatHelp([...path, asked]));
}
