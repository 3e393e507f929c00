import { selectDaemonFlags } from "#config/flags.ts";
import { loadConfig } from "#config/load.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { rights } from "#fleet/rights.ts";
import { cleanTemporaryMounts } from "#linux/temporary-mount.ts";
import { allPlugins } from "../../plugins.ts";
import { createDirectories, prepareDirectories } from "../directories.ts";
import { claimRoot } from "../ownership.ts";
import { chooseUsers } from "../users.ts";
import type { Command, CommandInput } from "./command.ts";
import { print } from "./output.ts";

/** Does before the units of the processes start what the gateway does before it starts them itself. */
export const prepareCommand: Command = {
  names: ["prepare"],
  usage:
    "Make the directories of all processes, and give each its own; for service managers that run each process as a unit",
  run: prepare,
};

async function prepare({ globals }: CommandInput): Promise<void> {
  const { config } = await loadConfig(selectDaemonFlags(globals), allPlugins);
  const { users, reason } = await chooseUsers(config);
  await createDirectories(config, users);
  // Nobody uses the root while it is claimed here, so that what is mounted there is left over.
  await using resources = new AsyncDisposableStack();
  const log = { warn: (_fields: object, message: string) => void process.stderr.write(`flotilla: ${message}\n`) };
  resources.use(await claimRoot(config, { log, signal: new AbortController().signal }));
  for (const warning of await cleanTemporaryMounts(`${config.root}/tmpmounts`)) {
    process.stderr.write(`flotilla: ${String(warning)}\n`);
  }
  for (const name of Object.keys(rights) as ProcessName[]) {
    await prepareDirectories(config, name, users);
  }
  await print(
    users.areSeparate
      ? "each process has its own directories"
      : `all processes run as one: ${reason ?? "so it is set"}`,
  );
}
