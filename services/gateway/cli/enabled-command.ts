import { errorMessage } from "#base/errors.ts";
import { selectDaemonFlags } from "#config/flags.ts";
import { loadConfig } from "#config/load.ts";
import { isEnabled, startups } from "#fleet/startup.ts";
import { allPlugins } from "../../plugins.ts";
import { type Command, CommandExit, type CommandInput } from "./command.ts";

/** Status for a process that the configuration has no use for. @source systemd.service(5), `ExecCondition=`: 1 to 254 skip the unit and do not fail it */
const exitDisabled = 1;
/** Status where that can't be told, which fails the unit. */
const exitUnknown = 255;

/** Tells a service manager whether it has to run a process. */
export const enabledCommand: Command = {
  names: ["enabled"],
  usage: "Tell by the exit status whether the configuration has a use for a process; for service managers",
  run: tell,
};

async function tell({ globals, rest: [name = ""] }: CommandInput): Promise<void> {
  const process = (Object.keys(startups) as (keyof typeof startups)[]).find((candidate) => candidate === name);
  if (process === undefined) {
    throw new CommandExit(exitUnknown, `flotilla: there is no process named ${JSON.stringify(name)}`);
  }
  const { config } = await loadConfig(selectDaemonFlags(globals), allPlugins).catch((error: unknown) => {
    throw new CommandExit(exitUnknown, `flotilla: ${errorMessage(error)}`);
  });
  if (!isEnabled(process, config.disabledPlugins)) {
    throw new CommandExit(exitDisabled, `${process} is disabled by the configuration`);
  }
}
