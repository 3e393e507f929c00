import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { readFileIfThere } from "#base/durable-file.ts";
import { errorMessage, systemErrorCode } from "#base/errors.ts";
import { allCapabilities } from "./host.ts";
import { type ConfiguredHost, parseHostsFile } from "./hosts-file.ts";

/**
 * The folder that configures a registry: the first directory's `<host>_<port>_`, `<host>:<port>` or `_default`, then the next directory's.
 *
 * @returns undefined when no directory knows the registry.
 * @source containerd v2.3.4 core/remotes/docker/config/config_unix.go `hostPaths`, hosts.go `HostDirFromRoot`
 */
export async function findHostDirectory(directories: readonly string[], registry: string): Promise<string | undefined> {
  const colon = registry.lastIndexOf(":");
  const withPort = colon > 0 ? [`${registry.slice(0, colon)}_${registry.slice(colon + 1)}_`] : [];
  for (const directory of directories) {
    for (const name of [...withPort, registry, "_default"]) {
      const path = join(directory, name);
      if (await exists(path)) {
        return path;
      }
    }
  }
  return undefined;
}

/**
 * Reads what a folder says of a registry: its `hosts.toml`, or without one the certificates in it, as docker lays them out.
 *
 * @param onWarning - Is told why a `hosts.toml` is not obeyed. The certificates count then, as they do in containerd.
 * @source containerd v2.3.4 core/remotes/docker/config/hosts.go `loadHostDir`
 */
export async function readHostDirectory(
  directory: string,
  onWarning: (text: string) => void,
): Promise<readonly ConfiguredHost[]> {
  const path = join(directory, "hosts.toml");
  const text = await readFileIfThere(path);
  if (text !== undefined && text !== "") {
    try {
      return parseHostsFile(text, directory);
    } catch (error) {
      onWarning(`failed to decode ${path}: ${errorMessage(error)}`);
    }
  }
  return [await readCertificates(directory)];
}

/** Files `*.crt` are trusted; `*.cert` show who we are, with the key in `*.key`. */
async function readCertificates(directory: string): Promise<ConfiguredHost> {
  const entries = await readdir(directory, { withFileTypes: true });
  const names = entries.filter((entry) => !entry.isDirectory()).map(({ name }) => name);
  const inOrder = names.sort();
  const caFiles = inOrder.filter((name) => name.endsWith(".crt")).map((name) => join(directory, name));
  const clientFiles = inOrder
    .filter((name) => name.endsWith(".cert"))
    .map((name) => {
      const key = `${name.slice(0, -".cert".length)}.key`;
      return [join(directory, name), names.includes(key) ? join(directory, key) : undefined] as const;
    });
  const hasNone = caFiles.length === 0 && clientFiles.length === 0;
  return {
    capabilities: allCapabilities,
    headers: [],
    ...(hasNone ? {} : { tls: { caFiles, clientFiles, skipVerify: false } }),
  };
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT" || systemErrorCode(error) === "ENOTDIR") {
      return false;
    }
    throw error;
  }
}
