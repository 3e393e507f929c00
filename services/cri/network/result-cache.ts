import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import type { CniNetwork } from "./conf-list.ts";
import type { Attachment } from "./plugin-program.ts";

/** Where every runtime that uses libcni keeps results, so that each finds what the other has made. @source containernetworking/cni v1.3 libcni/api.go `CacheDir` */
export const cniCacheDirectory = "/var/lib/cni";

const cacheKind = "cniCacheV1";

/**
 * Results of programs, kept until the attachment is undone, since undoing it takes them.
 *
 * @source containernetworking/cni v1.3 libcni/api.go `cachedInfo`, `cacheAdd`, `getCachedResult`, `cacheDel`
 */
export class ResultCache {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = `${directory}/results`;
  }

  /** Keeps the result of a network. */
  async put(network: CniNetwork, attachment: Attachment, result: Readonly<Record<string, unknown>>): Promise<void> {
    const { podId, interfaceName, netnsPath, args, capabilities } = attachment;
    const text = JSON.stringify({
      kind: cacheKind,
      containerId: podId,
      config: Buffer.from(network.source).toString("base64"),
      ifName: interfaceName,
      networkName: network.name,
      ...(netnsPath === "" ? {} : { netns: netnsPath }),
      ...(args.length === 0 ? {} : { cniArgs: args }),
      ...(Object.keys(capabilities).length === 0 ? {} : { capabilityArgs: capabilities }),
      result,
    });
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeFile(this.#path(network, attachment), text, { mode: 0o600 });
  }

  /** The result that was kept; undefined when there is none that makes sense. */
  async find(network: CniNetwork, attachment: Attachment): Promise<Readonly<Record<string, unknown>> | undefined> {
    try {
      const { kind, result } = JSON.parse(await readFile(this.#path(network, attachment), "utf8")) as {
        kind?: unknown;
        result?: unknown;
      };
      return kind === cacheKind && typeof result === "object" && result !== null
        ? (result as Readonly<Record<string, unknown>>)
        : undefined;
    } catch {
      // As libcni has it: programs must be able to undo an attachment without its result.
      return undefined;
    }
  }

  /** Forgets a result. */
  async remove(network: CniNetwork, attachment: Attachment): Promise<void> {
    await rm(this.#path(network, attachment), { force: true });
  }

  #path({ name }: CniNetwork, { podId, interfaceName }: Attachment): string {
    return `${this.#directory}/${name.replaceAll("/", "_")}-${podId}-${interfaceName}`;
  }
}
