import { logLevels } from "#config/config.ts";
import { type DaemonFlags, defaultConfigPath, selectDaemonFlags } from "#config/flags.ts";
import type { Command } from "./command.ts";
import { configCommand } from "./config-command.ts";
import { duCommand } from "./du-command.ts";
import { enabledCommand } from "./enabled-command.ts";
import { ociHookCommand } from "./oci-hook-command.ts";
import { prepareCommand } from "./prepare-command.ts";
import { publishCommand } from "./publish-command.ts";
import { serveCommand } from "./serve-command.ts";
import { statusCommand } from "./status-command.ts";
import { transfersCommand } from "./transfers-command.ts";

const description = `Starts the daemon in the foreground unless a command is given.

The daemon reads its configuration from a TOML file, if there is one, and runs with its
defaults otherwise. "flotilla config default" prints those as a file to start from, and
"flotilla config dump" what an existing file and its imports come to.`;

/** The program: its flags, its commands, and what it does without one. */
export function makeProgram(runDaemon: (flags: DaemonFlags) => Promise<void>): Command {
  return {
    names: ["flotilla"],
    usage: "container daemon with the API of containerd, as a fleet of small processes",
    description,
    flags: [
      { names: ["config", "c"], usage: "File to read the configuration from", defaultText: defaultConfigPath },
      { names: ["log-level", "l"], usage: `What to log at least [${logLevels.join(", ")}]` },
      { names: ["address", "a"], usage: "Path of the socket for gRPC" },
      { names: ["root"], usage: "Directory of what survives a reboot" },
      { names: ["state"], usage: "Directory of what does not" },
      { names: ["version", "v"], isSwitch: true, usage: "Print the version" },
    ],
    commands: [
      statusCommand,
      configCommand,
      publishCommand,
      ociHookCommand,
      transfersCommand,
      duCommand,
      serveCommand,
      prepareCommand,
      enabledCommand,
    ],
    run: ({ values }) => runDaemon(selectDaemonFlags(values)),
  };
}
