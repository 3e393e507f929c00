import { daemonVersion } from "#fleet/version.ts";
import type { Command } from "../services/gateway/cli/command.ts";
import { helpFlag } from "../services/gateway/cli/help.ts";
import { makeProgram } from "../services/gateway/cli/program.ts";

/**
 * Prints the manual page of the program, made from what its help says.
 *
 *   node deploy/man.ts >flotilla.8
 */
const program = makeProgram(() => Promise.resolve());

/** A line of roff: what begins with a dot or has a backslash would be read as a request. @source groff_man(7) */
function text(line: string): string {
  return line
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/, "\\&$1");
}

function flagsOf({ flags = [] }: Command): string[] {
  return [...flags, helpFlag].flatMap((flag) => {
    const value = "isSwitch" in flag ? "" : " \\fIvalue\\fR";
    const names = flag.names.map((name) => `\\fB${name.length === 1 ? "\\-" : "\\-\\-"}${text(name)}\\fR${value}`);
    const usage = flag.defaultText === undefined ? flag.usage : `${flag.usage} (default: ${flag.defaultText})`;
    return [".TP", names.join(", "), text(usage)];
  });
}

function commandsOf({ commands = [] }: Command, path: readonly string[]): string[] {
  return commands.flatMap((command) => {
    const names = [...path, command.names[0]];
    return [
      `.SS ${text(names.join(" "))}`,
      text(command.usage),
      ...(command.description === undefined ? [] : [".PP", ...command.description.split("\n").map(text)]),
      ...flagsOf(command),
      ...commandsOf(command, names),
    ];
  });
}

const lines = [
  `.TH FLOTILLA 8 "" "${daemonVersion()}" "System administration"`,
  ".SH NAME",
  `flotilla \\- ${text(program.usage)}`,
  ".SH SYNOPSIS",
  ".B flotilla",
  "[\\fIoptions\\fR] [\\fIcommand\\fR]",
  ".SH DESCRIPTION",
  ...(program.description ?? "").split("\n").map((line) => (line === "" ? ".PP" : text(line))),
  ".SH OPTIONS",
  ...flagsOf(program),
  ".SH COMMANDS",
  ...commandsOf(program, []),
  ".SH FILES",
  ".TP",
  "\\fI/etc/containerd/config.toml\\fR",
  "the configuration; containerd's are understood",
  ".TP",
  "\\fI/run/containerd/containerd.sock\\fR",
  "the socket for clients",
  ".TP",
  "\\fI/var/lib/containerd\\fR",
  "images, snapshots and records",
  ".SH UNITS",
  "\\fBflotilla.target\\fR runs each process as a unit of its own, \\fBflotilla.service\\fR all as one.",
  "",
];
process.stdout.write(lines.join("\n"));
