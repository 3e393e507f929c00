import type { Digest } from "#containerd/digest.ts";
import type { Descriptor } from "#containerd/image-manifest.ts";
import type { Labels } from "#containerd/labels.ts";

export type { Descriptor };

/** How much is fetched side by side. */
export interface DownloadLimits {
  /** Requests for content under way at once, for each registry; 0 for no limit. containerd's `max_concurrent_downloads`. */
  readonly maxConcurrentDownloads: number;
  /**
   * Bytes of each piece of a layer that is fetched by several range requests side by side; below 512 a layer is one request.
   * containerd's `concurrent_layer_fetch_buffer`.
   */
  readonly concurrentLayerFetchBytes: number;
}

/** What all transfers of this process share: how many requests at once, and how long a silent registry is waited for. */
export interface RegistriesSettings extends DownloadLimits {
  /** Uploads at once in one push; 0 for no limit. containerd's `max_concurrent_uploaded_layers`. */
  readonly maxConcurrentUploads: number;
  /** A connection on which nothing has moved for so long is given up. Slowness is not silence. */
  readonly noProgressMs: number;
  /** The first wait before something is tried again; later ones double. */
  readonly retryDelayMs: number;
}

/** One registry as a client's request names it. */
export interface RegistryRequest {
  /** The whole name, such as `docker.io/library/alpine:3.20`. */
  readonly reference: string;
  /** Directories with a folder for each registry (`hosts.toml`, certificates); the first that knows the registry counts. */
  readonly hostDirectories: readonly string[];
  /** `http` or `https` for registries of which the directories say nothing; "" for containerd's rules. */
  readonly defaultScheme: string;
  /** Headers for every request to the configured hosts, none of which follows a redirect to another host. */
  readonly headers: Readonly<Record<string, string>>;
  /** Limits of this transfer, where they are not those of the process: it shares its places with transfers of the same number. */
  readonly limits?: Partial<DownloadLimits>;
  /** Asks the client for a secret; absent when the client has not offered to be asked. */
  readonly credentials?: CredentialSource;
  /** Is told what the registry wants users to know, and what is wrong with its configuration. */
  readonly onWarning?: (text: string) => void;
  /** Is told each request and each answer, without secrets and bodies. */
  readonly onExchange?: (text: string) => void;
  /** Is told how many transfers of others wait for a download of this one, whenever that changes. */
  readonly onWaiting?: (digest: Digest, count: number) => void;
}

/** Asks whoever started a transfer for a secret. Called once at a time. */
export type CredentialSource = (request: CredentialRequest) => Promise<Credentials>;

export interface CredentialRequest {
  /** Host and port of the registry as it is called, `registry-1.docker.io` for `docker.io`. */
  readonly host: string;
  readonly reference: string;
  /** The values of `WWW-Authenticate`. */
  readonly challenges: readonly string[];
}

/** What a client answers, after `containerd.types.transfer.AuthResponse`. */
export type Credentials =
  | { readonly kind: "none" }
  | { readonly kind: "password"; readonly username: string; readonly secret: string }
  | { readonly kind: "refresh"; readonly secret: string }
  | { readonly kind: "header"; readonly value: string };

/** A repository in a registry, for the time of one transfer. Disposing of it closes its connections. */
export interface Registry extends AsyncDisposable {
  readonly reference: string;
  /**
   * Finds what the reference stands for.
   *
   * @throws {@link FlotillaError} `not_found` when no host has it; with the words of containerd for all else.
   */
  resolve(signal: AbortSignal): Promise<Descriptor>;
  /**
   * The bytes of a descriptor, whole and verified, in memory.
   *
   * @throws {@link FlotillaError} `not_found`, also for what is too large to be a manifest; `failed_precondition` when
   *   size or digest are others than the descriptor says.
   */
  fetchManifest(descriptor: Descriptor, signal: AbortSignal): Promise<Uint8Array>;
  /**
   * The bytes of a descriptor from an offset on, in pieces that are good until the next one. A connection that is cut is
   * taken up where it broke. The length is checked, the digest is not. To stop early, end the iteration.
   */
  fetch(descriptor: Descriptor, options: { readonly offset: number; readonly signal: AbortSignal }): ByteStream;
  /**
   * Brings a descriptor into a content store and returns when it is there, verified and held by the store's lease.
   *
   * All downloads of this process that want one digest at one time cost one: the others wait, are told how far it is, and
   * get its outcome. When the one that downloads is cancelled, or is refused by the registry, another takes over.
   */
  download(descriptor: Descriptor, request: DownloadRequest): Promise<DownloadOutcome>;
  /**
   * Sends everything below a descriptor: blobs side by side, then manifests, then indexes, each after what it refers to.
   * What the registry has is not sent; what another repository of it has is mounted from there.
   */
  push(root: Descriptor, request: PushRequest): Promise<void>;
  /** What refers to a manifest: signatures, attestations and the like. Empty when the registry knows none. */
  referrers(digest: Digest, query: ReferrersQuery): Promise<Descriptor[]>;
}

export type ByteStream = AsyncIterable<Uint8Array>;

export interface ReferrersQuery {
  /** Only these; all when empty. */
  readonly artifactTypes: readonly string[];
  readonly signal: AbortSignal;
}

export interface DownloadRequest {
  readonly content: ContentStore;
  /** Labels that the blob gets when it is new. */
  readonly labels: Labels;
  readonly onProgress?: (progress: TransferProgress) => void;
  readonly signal: AbortSignal;
}

/** `existed`: the store had it, and nothing was fetched. */
export type DownloadOutcome = "fetched" | "existed";

export interface PushRequest {
  readonly content: ContentStore;
  /** What a manifest or index refers to and shall be sent, platforms and the like considered. */
  readonly listChildren: (parent: Descriptor) => Promise<readonly Descriptor[]>;
  readonly onProgress?: (progress: TransferProgress) => void;
  readonly signal: AbortSignal;
}

/** How far one descriptor is. The last one told of a descriptor that did not fail is `complete` or `existed`. */
export interface TransferProgress {
  readonly descriptor: Descriptor;
  /** `waiting`: for a place, or for another transfer that brings the same bytes. */
  readonly state: "waiting" | "active" | "complete" | "existed" | "mounted";
  /** Bytes that are across. */
  readonly offset: number;
}

/** The content store as one transfer sees it: its namespace and lease are part of it. */
export interface ContentStore {
  /**
   * Opens an ingest and locks it.
   *
   * @throws {@link FlotillaError}
   *   - `already_exists`: the namespace has the blob, and it has been added to the lease.
   *   - `unavailable`: somebody else is writing it, or the store is not there.
   */
  openIngest(request: IngestRequest): Promise<Ingest>;
  /** Bytes that an ingest has, whoever is writing it; undefined when there is none. */
  findIngestOffset(ref: string, signal: AbortSignal): Promise<number | undefined>;
  /** Throws an ingest away that nobody writes. It is no failure when there is none. */
  abort(ref: string): Promise<void>;
  /**
   * The bytes of a blob from an offset on, in pieces that are the caller's.
   *
   * @throws {@link FlotillaError} `not_found`
   */
  read(digest: Digest, options: { readonly offset: number; readonly signal: AbortSignal }): ByteStream;
  /** The labels of a blob; undefined when there is none. */
  findLabels(digest: Digest, signal: AbortSignal): Promise<Labels | undefined>;
}

export interface IngestRequest {
  readonly ref: string;
  readonly expected: Digest;
  readonly totalBytes: number;
  readonly signal: AbortSignal;
}

/**
 * An ingest that is being written by us alone. Calls must not overlap; after one has failed only `close` may be called.
 * What has been appended stays when it is closed without a commit, so that the next one goes on from there.
 */
export interface Ingest {
  /** Bytes that are there. */
  readonly offset: number;
  /** Resolves when the store has the bytes; they are the caller's again then. */
  append(data: Uint8Array): Promise<void>;
  /** Throws all bytes away. */
  truncate(): Promise<void>;
  /**
   * @throws {@link FlotillaError} `already_exists`, which is a success; `failed_precondition` when size or digest are
   *   others than was said at the opening.
   */
  commit(labels: Labels): Promise<void>;
  /** Lets the ingest go. May be called twice. */
  close(): Promise<void>;
}
