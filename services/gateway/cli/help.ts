import { daemonVersion } from "#fleet/version.ts";
import type { Command, DescribedFlag } from "./command.ts";

/** Taken by every command. */
export const helpFlag: DescribedFlag = { names: ["help", "h"], isSwitch: true, usage: "Show help" };

/** Takes the place of a command that is asked about. */
export const helpCommand: Command = {
  names: ["help", "h"],
  usage: "Shows a list of commands or help for one command",
};

/**
 * Lays out the help of a command in the sections that containerd's users know.
 *
 * @param path - The program, then the commands down to the one that is asked about.
 * @source urfave/cli v2.27 template.go `AppHelpTemplate`, `CommandHelpTemplate`, `SubcommandHelpTemplate`
 */
export function formatHelp(path: readonly [Command, ...Command[]]): string {
  const command = path[path.length - 1] ?? path[0];
  const isProgram = path.length === 1;
  const name = path.map(({ names }) => names[0]).join(" ");
  const commands = command.commands === undefined ? [] : [...command.commands, helpCommand];
  const options = isProgram ? "[global options] command [command options]" : "[command options]";
  const sections = [
    section("NAME", [`${name} - ${command.usage}`]),
    section("USAGE", [`${name}${isProgram || commands.length === 0 ? "" : " command"} ${options}`]),
    ...(isProgram ? [section("VERSION", [daemonVersion()])] : []),
    ...(command.description === undefined ? [] : [section("DESCRIPTION", command.description.split("\n"))]),
    ...(commands.length === 0
      ? []
      : [section("COMMANDS", columns(commands.map(({ names, usage }) => [names.join(", "), usage])))]),
    section(
      isProgram ? "GLOBAL OPTIONS" : "OPTIONS",
      columns([...(command.flags ?? []), helpFlag].map((flag) => [flagNames(flag), flagUsage(flag)])),
    ),
  ];
  return sections.join("\n");
}

function section(title: string, lines: readonly string[]): string {
  return `${title}:\n${lines.map((line) => (line === "" ? "\n" : `   ${line}\n`)).join("")}`;
}

function columns(rows: readonly (readonly [left: string, right: string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `${left.padEnd(width)}  ${right}`);
}

function flagNames(flag: DescribedFlag): string {
  const value = "isSwitch" in flag ? "" : " value";
  return flag.names.map((name) => `${name.length === 1 ? "-" : "--"}${name}${value}`).join(", ");
}

function flagUsage({ usage, defaultText }: DescribedFlag): string {
  return defaultText === undefined ? usage : `${usage} (default: ${JSON.stringify(defaultText)})`;
}
