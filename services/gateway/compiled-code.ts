import { mkdir, readdir, rm } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { pluginUri } from "#config/manifest.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import type { FleetUsers } from "#fleet/users.ts";
import { supervisorPlugin } from "./plugins.ts";

/** The variable by which Node.js is told where compiled code is kept. @source nodejs.org/api/module.html `NODE_COMPILE_CACHE` */
const placeVariable = "NODE_COMPILE_CACHE";

/** Where a process keeps the code that Node.js has compiled for it. */
export interface CodeDirectory {
  readonly env: Readonly<Record<string, string>>;
  /** Makes the directory and gives it to the process; to be called before each start. */
  make(): Promise<void>;
}

/**
 * A place for the compiled code of a process with a user of its own. It may not write beside the bundles, and what it writes nobody else may run: whoever can change
 * compiled code can do all that its reader can.
 *
 * @returns Undefined for a process that runs as this one does, which keeps its code where this one does; and when no code is kept.
 */
export function codeDirectory(config: FleetConfig, name: ProcessName, users: FleetUsers): CodeDirectory | undefined {
  const shared = process.env[placeVariable] ?? "";
  if (shared === "" || users.uidOf(name) === process.geteuid?.()) {
    return undefined;
  }
  // Named by the set of bundles that the code was compiled from; the code of older sets goes.
  const sets = `${pluginRoot(config, pluginUri(supervisorPlugin))}/compiled`;
  const set = basename(dirname(shared));
  const directory = `${sets}/${set}/${name}`;
  return {
    env: { [placeVariable]: directory },
    make: async () => {
      await mkdir(directory, { recursive: true, mode: 0o711 });
      const { handOver } = await import("#linux/handover.ts");
      handOver(directory, { uid: users.uidOf(name), gid: users.gid ?? 0 });
      for (const other of await readdir(sets)) {
        if (other !== set) {
          await rm(`${sets}/${other}`, { recursive: true, force: true });
        }
      }
    },
  };
}
