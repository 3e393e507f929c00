import { setTimeout as delay } from "node:timers/promises";
import { errorMessage } from "#base/errors.ts";
import { selectDaemonFlags } from "#config/flags.ts";
import { loadConfig } from "#config/load.ts";
import { allPlugins } from "../../plugins.ts";
import type { Command, CommandInput } from "./command.ts";
import { print } from "./output.ts";
import { readStatus } from "./status-report.ts";
import { formatStatus } from "./status-table.ts";

/** Shows how each process is. For whoever runs the daemon: the sockets that are asked are private. */
export const statusCommand: Command = {
  names: ["status"],
  usage: "Show the processes of the daemon: health, restarts, memory, calls, events, failed plugins",
  flags: [
    { names: ["json"], isSwitch: true, usage: "Print JSON" },
    { names: ["watch", "w"], isSwitch: true, usage: "Show it again each second, until interrupted" },
  ],
  run: show,
};

const watchMs = 1_000;
/** Clears the screen and goes to its first line. @source ECMA-48 `ED`, `CUP` */
const clearScreen = "\u001b[2J\u001b[H";

async function show({ globals, switches }: CommandInput): Promise<void> {
  const { config } = await loadConfig(selectDaemonFlags(globals), allPlugins);
  const isWatched = switches.has("watch");
  const isJson = switches.has("json");
  const render = async (): Promise<string> => {
    const report = await readStatus(config);
    return isJson ? JSON.stringify(report, undefined, isWatched ? undefined : 2) : formatStatus(report, Date.now());
  };
  if (!isWatched) {
    await print(await render());
    return;
  }
  for (;;) {
    // Who watches wants to see the daemon come back as well.
    const text = await render().catch((error: unknown) => (isJson ? "null" : errorMessage(error)));
    await print(isJson ? text : `${clearScreen}${text}`);
    await delay(watchMs);
  }
}
