import { ErrorKind, failure } from "#base/errors.ts";
import { digestOf, splitDigest } from "#containerd/digest.ts";
import { downloadContent } from "./download/download.ts";
import { SharedDownloads } from "./download/shared-downloads.ts";
import { openStream } from "./download/stream-content.ts";
import { findRegistryHosts } from "./hosts/registry-hosts.ts";
import { readBounded } from "./http/read-bounded.ts";
import { RegistryClient } from "./http/registry-client.ts";
import type {
  Descriptor,
  DownloadOutcome,
  DownloadRequest,
  RegistriesSettings,
  Registry,
  RegistryRequest,
  TransferProgress,
} from "./ports.ts";
import { pushTree } from "./push/push-tree.ts";
import { parseReference } from "./reference.ts";
import { listReferrers } from "./referrers.ts";
import { Repository } from "./repository.ts";
import { manifestBytesMax, resolveReference } from "./resolve.ts";
import { TurnsByName } from "./turns-by-name.ts";

/** What the settings are when nobody says anything. @source containerd v2.3.4 plugins/transfer/plugin.go `defaultConfig` */
export const defaultRegistriesSettings: RegistriesSettings = {
  maxConcurrentDownloads: 3,
  concurrentLayerFetchBytes: 0,
  maxConcurrentUploads: 3,
  noProgressMs: 60_000,
  retryDelayMs: 250,
};

/** All registries, for the time of a process. What its transfers share is here: turns, and downloads of the same digest. */
export class Registries {
  readonly #settings: RegistriesSettings;
  readonly #userAgent: string;
  readonly #downloads = new SharedDownloads();
  /** For each registry its own: one that hangs must not take the turns of the others. */
  readonly #turns = new TurnsByName();

  /** @param userAgent - How registries see us, such as `containerd/2.3.4+flotilla.0.1.0`. */
  constructor(settings: RegistriesSettings, userAgent: string) {
    this.#settings = settings;
    this.#userAgent = userAgent;
  }

  /**
   * Gets ready to talk to the registry of a reference. Reads its configuration, sends nothing.
   *
   * @throws {@link FlotillaError} `invalid_argument` when the reference makes no sense.
   */
  async open(request: RegistryRequest): Promise<Registry> {
    const reference = parseReference(request.reference);
    const hosts = await findRegistryHosts(reference.host, request);
    const { accept, others } = splitAccept(request.headers);
    const client = new RegistryClient({
      headers: others,
      userAgent: this.#userAgent,
      settings: this.#settings,
      credentials: bindCredentials(request),
      ...(request.onWarning === undefined ? {} : { onWarning: request.onWarning }),
      ...(request.onExchange === undefined ? {} : { onExchange: request.onExchange }),
    });
    const settings = { ...this.#settings, ...request.limits };
    const used = this.#turns.use(reference.host, settings.maxConcurrentDownloads);
    const repository = new Repository({ reference, client, settings, turns: used.turns, hosts });
    return {
      reference: request.reference,
      resolve: (signal) => resolveReference(repository, request.reference, { accept, signal }),
      fetchManifest: (descriptor, signal) => fetchManifest(repository, descriptor, signal),
      fetch: (descriptor, { offset, signal }) => openStream({ repository, descriptor, signal }, offset),
      download: (descriptor, download) =>
        this.#download(repository, descriptor, {
          ...download,
          onWaiting: (count) => request.onWaiting?.(descriptor.digest, count),
        }),
      push: (root, push) => pushTree(repository, root, push),
      referrers: (digest, query) => listReferrers(repository, digest, query),
      [Symbol.asyncDispose]: () => {
        used[Symbol.dispose]();
        return client[Symbol.asyncDispose]();
      },
    };
  }

  async #download(
    repository: Repository,
    descriptor: Descriptor,
    request: DownloadRequest & { readonly onWaiting: (count: number) => void },
  ): Promise<DownloadOutcome> {
    const tell = (state: TransferProgress["state"], offset: number): void =>
      request.onProgress?.({ descriptor, state, offset });
    tell("waiting", 0);
    const onOffset = (offset: number): void => tell("active", offset);
    const outcome = await this.#downloads.run({
      digest: descriptor.digest,
      origin: repository.locator,
      signal: request.signal,
      onOffset,
      onWaiting: request.onWaiting,
      work: (onOffset) => downloadContent({ ...request, repository, descriptor, onOffset }),
    });
    tell(outcome === "existed" ? "existed" : "complete", descriptor.size);
    return outcome;
  }
}

/** What a client accepts counts when a name is resolved, and for nothing else. */
function splitAccept(headers: RegistryRequest["headers"]): {
  readonly accept: string | undefined;
  readonly others: RegistryRequest["headers"];
} {
  const isAccept = ([name]: readonly [string, string]): boolean => name.toLowerCase() === "accept";
  const entries = Object.entries(headers);
  return {
    accept: entries.find(isAccept)?.[1],
    others: Object.fromEntries(entries.filter((entry) => !isAccept(entry))),
  };
}

function bindCredentials({ credentials, reference }: RegistryRequest) {
  return credentials === undefined
    ? undefined
    : (host: string, challenges: readonly string[]) => credentials({ host, reference, challenges });
}

async function fetchManifest(repository: Repository, descriptor: Descriptor, signal: AbortSignal): Promise<Uint8Array> {
  const { digest, size } = descriptor;
  if (size > manifestBytesMax) {
    throw failure(ErrorKind.NotFound, `rejecting ${size} byte manifest ${digest}`);
  }
  const stream = openStream({ repository, descriptor, signal }, 0);
  const bytes = await readBounded(stream, { bytesMax: manifestBytesMax, excess: "refuse" });
  const actual = digestOf(bytes, splitDigest(digest).algorithm);
  if (actual !== digest) {
    throw failure(ErrorKind.FailedPrecondition, `unexpected digest ${actual}, expected ${digest}`);
  }
  return bytes;
}
