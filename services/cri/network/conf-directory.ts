import { readdir, readFile, stat } from "node:fs/promises";
import { ErrorKind, errorMessage, FlotillaError, systemErrorCode } from "#base/errors.ts";
import { type CniNetwork, parseConf, parseConfList } from "./conf-list.ts";

/** A network and the interface that a pod gets for it. */
export interface AttachedNetwork {
  readonly network: CniNetwork;
  readonly interfaceName: string;
}

/** What a directory of configurations says now: its networks, or why there are none. */
export interface LoadedNetworks {
  readonly networks: readonly AttachedNetwork[];
  readonly error: FlotillaError | undefined;
}

const confFile = /\.(?:conf|conflist|json)$/;
/** Largest file that is read as a configuration. */
const confBytesMax = 4 * 1024 * 1024;

/**
 * The configurations of CNI in a directory, as they are whenever somebody asks: the files are looked at each time and read again
 * when one has changed. That takes a few system calls for each pod, misses nothing, and needs nobody to watch a directory that may come
 * and go.
 *
 * @source containerd v2.3.4 internal/cri/server/cni_conf_syncer.go; containerd/go-cni opts.go `loadFromConfDir`
 */
export class ConfDirectory {
  readonly path: string;
  readonly #numberMax: number;
  #signature: string | undefined;
  #loaded: LoadedNetworks = { networks: [], error: undefined };

  /** @param numberMax - Files that are read, in the order of their names; 0 for all. */
  constructor(path: string, numberMax: number) {
    this.path = path;
    this.#numberMax = numberMax;
  }

  /** The networks as they are now. */
  async current(): Promise<LoadedNetworks> {
    let files: readonly string[];
    try {
      files = await this.#files();
    } catch (error) {
      return {
        networks: [],
        error: loadError(`failed to read config file: ${errorMessage(error)}: failed to read config file`),
      };
    }
    const signature = await signatureOf(files);
    if (signature !== this.#signature) {
      this.#loaded = await this.#load(files);
      this.#signature = signature;
    }
    return this.#loaded;
  }

  async #files(): Promise<string[]> {
    try {
      const names = (await readdir(this.path, { withFileTypes: true }))
        .filter((entry) => !entry.isDirectory() && confFile.test(entry.name))
        .map(({ name }) => `${this.path}/${name}`)
        .sort();
      return this.#numberMax > 0 ? names.slice(0, this.#numberMax) : names;
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        return [];
      }
      throw error;
    }
  }

  async #load(files: readonly string[]): Promise<LoadedNetworks> {
    if (files.length === 0) {
      return { networks: [], error: loadError(`no network config found in ${this.path}: cni plugin not initialized`) };
    }
    const networks: AttachedNetwork[] = [];
    for (const [index, file] of files.entries()) {
      const isList = file.endsWith(".conflist");
      try {
        const text = await readText(file);
        const network = isList ? parseConfList(text) : parseConf(text);
        if (network.plugins.length === 0) {
          return failed(`CNI config list in config file ${file} has no networks, skipping: invalid cni config`);
        }
        networks.push({ network, interfaceName: `eth${index}` });
      } catch (error) {
        const kind = isList ? "config list file" : "config file";
        return failed(`failed to load CNI ${kind} ${file}: ${errorMessage(error)}: invalid cni config`);
      }
    }
    return { networks, error: undefined };
  }
}

async function readText(file: string): Promise<string> {
  const { size } = await stat(file);
  if (size > confBytesMax) {
    throw new FlotillaError(ErrorKind.Unknown, `larger than ${confBytesMax} bytes`);
  }
  return await readFile(file, "utf8");
}

async function signatureOf(files: readonly string[]): Promise<string> {
  const parts = await Promise.all(
    files.map(async (file) => {
      try {
        const { ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true });
        return `${file} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
      } catch {
        return `${file} -`;
      }
    }),
  );
  return parts.join("\n");
}

function failed(message: string): LoadedNetworks {
  return { networks: [], error: loadError(message) };
}

function loadError(message: string): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, `cni config load failed: ${message}: failed to load cni config`);
}
