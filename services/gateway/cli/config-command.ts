import { resolve } from "node:path";
import { defaultDocument, defaultTimeouts } from "#config/defaults.ts";
import type { ConfigDocument } from "#config/document.ts";
import { defaultConfigPath, selectDaemonFlags } from "#config/flags.ts";
import { formatDocument } from "#config/format-document.ts";
import { effectivePlugins } from "#config/load.ts";
import { loadDocument } from "#config/load-document.ts";
import type { Command, CommandInput } from "./command.ts";
import { print } from "./output.ts";

/** @source containerd v2.3.4 cmd/containerd/command/config.go `configCommand` */
export const configCommand: Command = {
  names: ["config"],
  usage: "Show the configuration",
  commands: [
    {
      names: ["default"],
      usage: "Print the configuration that holds without a file",
      run: () => print(formatDocument(completed(defaultDocument))),
    },
    {
      names: ["dump"],
      usage: "Print what the configuration file and its imports come to",
      run: dump,
    },
    {
      names: ["migrate"],
      usage: "Print the same as dump: the configuration in the latest version; imported files are left as they are",
      run: dump,
    },
  ],
};

/** A file that does not exist counts as an empty one. What would be logged at start goes to standard error. */
async function dump({ globals }: CommandInput): Promise<void> {
  const file = resolve(selectDaemonFlags(globals).config ?? defaultConfigPath);
  const { document, warnings } = await loadDocument(file, { mayBeMissing: true });
  for (const warning of warnings) {
    process.stderr.write(`${warning}\n`);
  }
  await print(formatDocument(completed(document)));
}

/** Adds what the defaults of plugins and the timeouts say. */
function completed(document: ConfigDocument): ConfigDocument {
  const timeouts: Record<string, string> = { ...document.timeouts };
  for (const [key, value] of Object.entries(defaultTimeouts)) {
    timeouts[key] ||= value;
  }
  return { ...document, plugins: effectivePlugins(document), timeouts };
}
