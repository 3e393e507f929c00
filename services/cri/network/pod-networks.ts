import { ErrorKind, errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { together } from "#base/together.ts";
import type { PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import { switchLoopbackOn } from "#linux/network-namespace.ts";
import type { NetworkSettings } from "../config.ts";
import type { RuntimeSettings } from "../runtime-settings.ts";
import { cniArgs, cniCapabilities } from "./capabilities.ts";
import { type AttachedNetwork, ConfDirectory, type LoadedNetworks } from "./conf-directory.ts";
import { parseConfList } from "./conf-list.ts";
import type { Attachment } from "./plugin-program.ts";
import { type CniResult, choosePodIps, joinResults, type NetworkResult } from "./result.ts";
import { ResultCache } from "./result-cache.ts";
import { addNetwork, checkNetworkStatus, type NetworkTools, removeNetwork } from "./run-network.ts";

/** A pod as far as its network goes. */
export interface NetworkedPod {
  readonly id: string;
  readonly config: PodSandboxConfig;
  /** As the kubelet named it, "" for the default. */
  readonly runtimeHandler: string;
  readonly netnsPath: string;
}

/** What a pod has got. */
export interface PodNetwork {
  readonly result: NetworkResult;
  readonly ip: string;
  readonly additionalIps: readonly string[];
}

/** Under which name the common configurations are known. @source containerd v2.3.4 internal/cri/server/service_linux.go `defaultNetworkPlugin` */
export const commonNetwork = "default";

/** @source containerd/go-cni opts.go `WithLoNetwork` */
const loopback: AttachedNetwork = {
  network: parseConfList('{"cniVersion": "0.3.1", "name": "cni-loopback", "plugins": [{"type": "loopback"}]}'),
  interfaceName: "lo",
};

const notInitialized = "cni plugin not initialized";

/**
 * The networks of pods, by programs of CNI.
 *
 * @source containerd v2.3.4 internal/cri/server/sandbox_run.go `setupPodNetwork`, sandbox_stop.go `teardownPodNetwork`; containerd/go-cni cni.go
 */
export class PodNetworks {
  readonly #cache: ResultCache;
  readonly #directories = new Map<string, ConfDirectory>();
  #settings: NetworkSettings;

  /** @param cacheDirectory - Where results are kept. */
  constructor(settings: NetworkSettings, runtimes: Iterable<RuntimeSettings>, cacheDirectory: string) {
    this.#settings = settings;
    this.#cache = new ResultCache(cacheDirectory);
    this.configure(settings, runtimes);
  }

  /** Goes by other settings from now on. What pods are attached to already is left as it is, since results tell how it was done. */
  configure(settings: NetworkSettings, runtimes: Iterable<RuntimeSettings>): void {
    this.#settings = settings;
    this.#directories.clear();
    this.#directories.set(commonNetwork, new ConfDirectory(settings.confDirectory, settings.confNumMax));
    for (const { name, cniConfDir, cniMaxConfNum } of runtimes) {
      if (cniConfDir !== "") {
        this.#directories.set(name, new ConfDirectory(cniConfDir, cniMaxConfNum || settings.confNumMax));
      }
    }
  }

  get #tools(): NetworkTools {
    return { directories: this.#settings.binaryDirectories, cache: this.#cache };
  }

  /**
   * Attaches a pod to all of its networks. When this fails, {@link tearDown} undoes what was done.
   *
   * @throws {@link FlotillaError} `unknown` with containerd's text.
   */
  async setUp(pod: NetworkedPod, signal: AbortSignal): Promise<PodNetwork> {
    const { setupSerially, ipPreference, internalLoopback } = this.#settings;
    const networks = await this.#networksOf(pod);
    if (internalLoopback) {
      try {
        switchLoopbackOn(pod.netnsPath);
      } catch (error) {
        throw wrapFailure(error, "unable to set lo to up: error setting loopback interface up");
      }
    }
    const attach = ({ network, interfaceName }: AttachedNetwork): Promise<CniResult> =>
      addNetwork(this.#tools, network, attachmentOf(pod, interfaceName), signal);
    const results = setupSerially ? await inTurn(networks, attach) : await together(networks.map(attach));
    const result = joinResults(results);
    const ips = choosePodIps(result, ipPreference);
    if (ips === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, `failed to find network info for sandbox ${quote(pod.id)}`);
    }
    return { result, ...ips };
  }

  /**
   * Detaches a pod from its networks, from all at once. May be repeated, also when the namespace is gone.
   *
   * @throws {@link FlotillaError} `unknown` with containerd's text.
   */
  async tearDown(pod: NetworkedPod): Promise<void> {
    const networks = await this.#networksOf(pod);
    await together(
      networks.map(async ({ network, interfaceName }) => {
        try {
          await removeNetwork(this.#tools, network, attachmentOf(pod, interfaceName));
        } catch (error) {
          const text = errorMessage(error);
          // Programs differ in what they say when there is nothing to undo.
          const isGone =
            (pod.netnsPath === "" && text.includes("no such file or directory")) || text.includes("not found");
          if (!isGone) {
            throw error;
          }
        }
      }),
    );
  }

  /** Why pods can't be attached to the common network now; undefined when they can. */
  async trouble(): Promise<string | undefined> {
    try {
      await this.requireReady();
      return undefined;
    } catch (error) {
      return errorMessage(error);
    }
  }

  /** @throws Why pods can't be attached to the common network now. */
  async requireReady(): Promise<void> {
    for (const { network } of await this.#ready(this.#directory(commonNetwork))) {
      await checkNetworkStatus(this.#tools, network);
    }
  }

  /** What each directory of configurations says now, by the name of the runtime. */
  async loaded(): Promise<ReadonlyMap<string, LoadedNetworks & { readonly directory: string }>> {
    const all = new Map<string, LoadedNetworks & { readonly directory: string }>();
    for (const [name, directory] of this.#directories) {
      all.set(name, { ...(await directory.current()), directory: directory.path });
    }
    return all;
  }

  /** The networks that every pod has besides those of its directory. */
  get always(): readonly AttachedNetwork[] {
    return this.#settings.internalLoopback ? [] : [loopback];
  }

  #networksOf({ runtimeHandler }: NetworkedPod): Promise<readonly AttachedNetwork[]> {
    return this.#ready(this.#directories.get(runtimeHandler) ?? this.#directory(commonNetwork));
  }

  async #ready(directory: ConfDirectory): Promise<readonly AttachedNetwork[]> {
    const { networks } = await directory.current();
    if (networks.length === 0) {
      throw new FlotillaError(ErrorKind.Unknown, notInitialized);
    }
    return [...this.always, ...networks];
  }

  #directory(name: string): ConfDirectory {
    const directory = this.#directories.get(name);
    if (directory === undefined) {
      throw new Error(`no directory of configurations for ${name}`);
    }
    return directory;
  }
}

function attachmentOf({ id, config, netnsPath }: NetworkedPod, interfaceName: string): Attachment {
  return {
    podId: id,
    netnsPath,
    interfaceName,
    args: cniArgs(id, config),
    capabilities: cniCapabilities(config),
  };
}

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) {
    results.push(await work(item));
  }
  return results;
}
