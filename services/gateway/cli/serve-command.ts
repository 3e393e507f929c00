import { fileURLToPath } from "node:url";
import { errorMessage } from "#base/errors.ts";
import { logLevels } from "#config/config.ts";
import { programUrl } from "#fleet/program.ts";
import type { Command, CommandInput, DescribedFlag } from "./command.ts";

const flags: readonly DescribedFlag[] = [
  { names: ["address"], usage: "Path of the socket to serve on" },
  { names: ["root"], usage: "Directory of everything that is kept" },
  { names: ["log-level"], usage: `What to log at least [${logLevels.join(", ")}]` },
];

/** Serves a part of the fleet alone, for a containerd that has it as a proxy plugin. */
export const serveCommand: Command = {
  names: ["serve"],
  usage: "Serve a part of the fleet alone, as a proxy plugin of a containerd",
  commands: [
    {
      names: ["content"],
      usage: "Serve a content store, in containerd's own layout",
      flags,
      run: (input) => become("services/content/standalone-main.ts", input),
    },
    {
      names: ["snapshots"],
      usage: "Serve a snapshotter",
      flags: [...flags, { names: ["driver"], usage: "What keeps the snapshots", defaultText: "overlayfs" }],
      run: (input) => become("services/snapshots/standalone-main.ts", input),
    },
  ],
};

/** Replaces this process by another program of the repository. */
async function become(program: `${string}.ts`, { values, globals }: CommandInput): Promise<void> {
  const given = new Map([...globals].filter(([name]) => name === "log-level"));
  const args = [...given, ...values].map(([name, value]) => `--${name}=${value}`);
  if (process.execve === undefined) {
    throw new Error("this platform can't replace a process");
  }
  // Node.js warns that execve is new.
  process.removeAllListeners("warning");
  const command = [process.execPath, ...process.execArgv, fileURLToPath(programUrl(program)), ...args];
  try {
    process.execve(process.execPath, command);
  } catch (error) {
    throw new Error(`${program}: ${errorMessage(error)}`, { cause: error });
  }
}
