import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { parseImageReference } from "#containerd/image-reference.ts";
import { ImageStoreSchema } from "#gen/containerd/types/transfer/imagestore_pb.ts";
import { ProgressSchema } from "#gen/containerd/types/transfer/progress_pb.ts";
import {
  AuthRequestSchema,
  AuthResponseSchema,
  AuthType,
  OCIRegistrySchema,
} from "#gen/containerd/types/transfer/registry_pb.ts";
import { downloadLimitHeaders, nodeKeysHeader, syncFileSystemHeader } from "#wire/headers.ts";
import { type CriPeers, criCall } from "../peers.ts";
import type { HostCredentials } from "./credentials.ts";
import { ProgressWatch } from "./progress-watch.ts";
import { openPullStream, packAny, unpackAny } from "./pull-streams.ts";

/** How much of an image is fetched side by side, in the units of the settings. */
export type DownloadLimits = Partial<Record<keyof typeof downloadLimitHeaders, number>>;

export interface PullRequest {
  /** The full name. */
  readonly reference: string;
  readonly snapshotter: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Who we are at a host. */
  readonly credentials: (host: string) => HostCredentials;
  readonly headers: Readonly<Record<string, string>>;
  readonly hostDirectories: string;
  readonly progressTimeoutMs: number;
  /** Whether layers are on the disk before they are committed. */
  readonly flushesUnpackedLayers: boolean;
  /** Whether encrypted layers are decrypted with keys of this machine. */
  readonly usesNodeKeys: boolean;
  /** Limits of this pull alone; those that are absent are the ones of all transfers. */
  readonly limits: DownloadLimits;
  readonly signal: AbortSignal;
}

/** How often an image is asked for whose transfer process dies. Each time goes on where the one before was. */
const triesMax = 4;

/**
 * Has the transfer process bring and unpack an image and record it under its name. When it dies the image is asked for again.
 *
 * @throws {@link FlotillaError} of the transfer; `canceled` when nothing has come for too long.
 * @source containerd v2.3.4 internal/cri/server/images/image_pull.go `pullImageWithTransferService`
 */
export async function transferImage(peers: CriPeers, request: PullRequest): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const lost = new AbortController();
    try {
      return await transferOnce(peers, request, lost);
    } catch (error) {
      if (!lost.signal.aborted || request.signal.aborted || tries === triesMax) {
        throw error;
      }
    }
  }
}

/** @param lost - Aborted when the streams of the transfer break, as they do when its process dies. */
async function transferOnce(peers: CriPeers, request: PullRequest, lost: AbortController): Promise<void> {
  const stalled = new AbortController();
  const signal = AbortSignal.any([request.signal, stalled.signal, lost.signal]);
  const watch = new ProgressWatch(request.progressTimeoutMs, performance.now());
  const timer =
    request.progressTimeoutMs === 0
      ? undefined
      : setInterval(() => {
          if (watch.hasStalled(performance.now())) {
            stalled.abort(
              failure(
                ErrorKind.Canceled,
                `pull of ${request.reference} had no progress for ${request.progressTimeoutMs} ms`,
              ),
            );
          }
        }, watch.intervalMs);
  using streams = new DisposableStack();
  let refused: unknown;
  const onBroken = (): void => {
    if (refused === undefined) {
      lost.abort(failure(ErrorKind.Unavailable, "the process died that brought the image"));
    }
  };
  try {
    const auth = await openPullStream(peers, {
      purpose: "auth",
      signal,
      onBroken,
      onMessage: (message) => {
        const asked = unpackAny(AuthRequestSchema, message);
        try {
          return asked && packAny(AuthResponseSchema, authResponse(request.credentials(asked.host)));
        } catch (error) {
          refused = wrapFailure(error, `failed to get credentials for ${JSON.stringify(asked?.host)}`);
          throw error;
        }
      },
    });
    streams.adopt(auth, (stream) => stream.close());
    const progress = await openPullStream(peers, {
      purpose: "progress",
      signal,
      onBroken,
      onMessage: (message) => {
        const told = unpackAny(ProgressSchema, message);
        if (told !== undefined) {
          watch.note(told, performance.now());
        }
        return undefined;
      },
    });
    streams.adopt(progress, (stream) => stream.close());
    const call = criCall({ signal, timeoutMs: Number.POSITIVE_INFINITY });
    const headers = { ...call.headers, ...ownHeaders(request) };
    await peers.transfer.transfer(
      { source: source(request, auth.id), destination: destination(request), options: { progressStream: progress.id } },
      { ...call, headers },
    );
  } catch (error) {
    throw stalled.signal.aborted
      ? stalled.signal.reason
      : (refused ?? (lost.signal.aborted ? lost.signal.reason : error));
  } finally {
    clearInterval(timer);
  }
}

/** What messages have no field for. */
function ownHeaders({ flushesUnpackedLayers, usesNodeKeys, limits }: PullRequest): Record<string, string> {
  const { maxConcurrentDownloads, concurrentLayerFetchBytes } = downloadLimitHeaders;
  return {
    ...(flushesUnpackedLayers ? { [syncFileSystemHeader]: "true" } : {}),
    ...(usesNodeKeys ? { [nodeKeysHeader]: "true" } : {}),
    ...(limits.maxConcurrentDownloads === undefined
      ? {}
      : { [maxConcurrentDownloads]: `${limits.maxConcurrentDownloads}` }),
    ...(limits.concurrentLayerFetchBytes === undefined
      ? {}
      : { [concurrentLayerFetchBytes]: `${limits.concurrentLayerFetchBytes}` }),
  };
}

function source({ reference, headers, hostDirectories }: PullRequest, authStream: string) {
  return packAny(OCIRegistrySchema, {
    reference,
    resolver: { authStream, headers: { ...headers }, hostDir: hostDirectories },
  });
}

function destination({ reference, labels, snapshotter }: PullRequest) {
  const platform = hostPlatform();
  return packAny(ImageStoreSchema, {
    name: reference,
    labels: { ...labels },
    platforms: [platform],
    unpacks: [{ platform, snapshotter }],
  });
}

function authResponse(credentials: HostCredentials) {
  switch (credentials.kind) {
    case "password":
      return { authType: AuthType.CREDENTIALS, username: credentials.username, secret: credentials.secret };
    case "refresh":
      return { authType: AuthType.REFRESH, secret: credentials.secret };
    case "header":
      return { authType: AuthType.HEADER, secret: credentials.secret };
    default:
      return { authType: AuthType.NONE };
  }
}

/**
 * The names that an image is known by after a pull: its id, its tag and its digest.
 *
 * @param reference - The full name that it was pulled by.
 * @source containerd v2.3.4 internal/cri/util/references.go `GetRepoDigestAndTag`
 */
export function namesAfterPull(
  reference: string,
  { id, digest }: { readonly id: string; readonly digest: string },
): string[] {
  const parsed = parseImageReference(reference);
  const repoDigest = parsed.digest === "" ? `${parsed.domain}/${parsed.path}@${digest}` : reference;
  return [id, ...(parsed.tag === "" ? [] : [reference]), repoDigest];
}
