import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:fs";
import { access, open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { systemErrorCode, wrapFailure } from "#base/errors.ts";
import type { LaunchedProgram } from "./connected-plugin.ts";
import { parsePluginName } from "./plugin-name.ts";

/** A plugin whose program lies in the directory for it. */
export interface InstalledPlugin {
  readonly path: string;
  readonly index: string;
  readonly base: string;
  readonly config: string;
}

/** A program of WebAssembly begins so. @source WebAssembly core specification, section 5.5.16 */
const wasmHead = Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]);

/**
 * Finds the plugins that are to be started: programs named `NN-NAME`, in their order.
 *
 * @returns None when there is no such directory.
 * @throws {@link FlotillaError} `unknown` when a program is named otherwise or a configuration can't be read.
 * @source containerd/nri v0.12 pkg/adaptation/adaptation.go `discoverPlugins`
 */
export async function findInstalledPlugins(directory: string, configDirectory: string): Promise<InstalledPlugin[]> {
  const context = `failed to discover plugins in ${directory}`;
  try {
    const found: InstalledPlugin[] = [];
    for (const name of (await readdir(directory)).sort()) {
      const path = join(directory, name);
      if (await isProgram(path)) {
        const { index, base } = parsePluginName(name);
        found.push({ path, index, base, config: await readConfig(configDirectory, { name, base }) });
      }
    }
    return found;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return [];
    }
    throw wrapFailure(error, context);
  }
}

/** Whether a program is one of WebAssembly, which nothing here can run. */
export async function isWebAssembly(path: string): Promise<boolean> {
  await using file = await open(path, "r");
  const { buffer, bytesRead } = await file.read(Buffer.alloc(wasmHead.length), 0, wasmHead.length, 0);
  return bytesRead === wasmHead.length && buffer.equals(wasmHead);
}

/**
 * Starts the program of a plugin, with its end of a socket as descriptor 3.
 *
 * @param onEnd - Is told when the program has ended, or could not be started.
 * @source containerd/nri v0.12 pkg/adaptation/plugin.go `newLaunchedPlugin`
 */
export function launchPlugin(
  { path, index, base, config }: InstalledPlugin,
  onEnd: () => void,
): { readonly connection: Duplex; readonly program: LaunchedProgram } {
  const child: ChildProcess = spawn(path, {
    stdio: ["ignore", "ignore", "inherit", "pipe"],
    env: { NRI_PLUGIN_NAME: base, NRI_PLUGIN_IDX: index, NRI_PLUGIN_SOCKET: "3" },
  });
  child.once("error", onEnd);
  child.once("exit", onEnd);
  const connection = child.stdio[3] as unknown as Duplex;
  return { connection, program: { index, base, config, stop: () => void child.kill("SIGKILL") } };
}

async function isProgram(path: string): Promise<boolean> {
  if (!(await stat(path)).isFile()) {
    return false;
  }
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** That of this very plugin, or else that of all with its name. */
async function readConfig(directory: string, { name, base }: { name: string; base: string }): Promise<string> {
  for (const file of [`${name}.conf`, `${base}.conf`]) {
    try {
      return await readFile(join(directory, file), "utf8");
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") {
        throw wrapFailure(error, `failed to read configuration for plugin "${name}"`);
      }
    }
  }
  return "";
}
