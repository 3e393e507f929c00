import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { type Digest, isDigest } from "#containerd/digest.ts";
import type { RegistryHost } from "./hosts/host.ts";
import type { HttpResponse } from "./http/http-message.ts";
import { readBounded } from "./http/read-bounded.ts";
import { joinHostErrors } from "./http/registry-error.ts";
import { statusError } from "./http/status-error.ts";
import { mediaTypes } from "./media-type.ts";
import type { Descriptor, ReferrersQuery } from "./ports.ts";
import type { Repository } from "./repository.ts";
import { manifestBytesMax } from "./resolve.ts";

/**
 * Lists what refers to a manifest: by the API for it, and by the tag that stands in for it where a registry has none.
 *
 * @returns empty when no host knows any.
 * @throws {@link FlotillaError} when a host could not answer and none did.
 * @source distribution/distribution-spec v1.1 spec.md "Listing Referrers"; containerd v2.3.4
 *   core/remotes/docker/referrers.go
 */
export async function listReferrers(
  repository: Repository,
  digest: Digest,
  query: ReferrersQuery,
): Promise<Descriptor[]> {
  const capable = repository.hostsFor("referrers");
  const hosts = capable.length > 0 ? capable : repository.hostsFor("resolve");
  const failures: (readonly [string, unknown])[] = [];
  const byApi = { path: `referrers/${digest}`, query: { artifactType: query.artifactTypes } };
  const byTag = { path: `manifests/${digest.replace(":", "-")}` };
  for (const [places, question] of [[capable, byApi] as const, [hosts, byTag] as const]) {
    for (const [index, host] of places.entries()) {
      const isLastHost = index === places.length - 1;
      let response: HttpResponse | undefined;
      try {
        response = await ask(repository, host, { ...question, isLastHost, signal: query.signal });
      } catch (error) {
        if (query.signal.aborted) {
          throw error;
        }
        failures.push([host.host, error]);
      }
      if (response !== undefined) {
        return select(await readIndex(response), query);
      }
    }
  }
  if (failures.length > 0) {
    throw joinHostErrors(failures);
  }
  return [];
}

interface Question {
  readonly path: string;
  readonly query?: Readonly<Record<string, readonly string[]>>;
  readonly isLastHost: boolean;
  readonly signal: AbortSignal;
}

/** @returns undefined when the host has no such thing. */
async function ask(repository: Repository, host: RegistryHost, question: Question): Promise<HttpResponse | undefined> {
  const headers = { accept: `${mediaTypes.ociIndex}, */*` };
  const response = await repository.send({ host, method: "GET", headers, ...question });
  if (response.status === 404) {
    await response.discard();
    return undefined;
  }
  if (response.status > 299) {
    throw await statusError(response);
  }
  return response;
}

async function readIndex(response: HttpResponse): Promise<unknown> {
  const bytes = await readBounded(response.body, { bytesMax: manifestBytesMax, excess: "refuse" });
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, "failed to decode referrers index: invalid JSON", { cause: error });
  }
}

function select(index: unknown, { artifactTypes }: ReferrersQuery): Descriptor[] {
  const { manifests } = (index ?? {}) as { readonly manifests?: unknown };
  const listed = (Array.isArray(manifests) ? manifests : []).map(checkDescriptor);
  return artifactTypes.length === 0
    ? listed
    : listed.filter(({ artifactType }) => artifactType !== undefined && artifactTypes.includes(artifactType));
}

function checkDescriptor(value: unknown): Descriptor {
  const { mediaType, digest, size } = (value ?? {}) as Record<string, unknown>;
  const isSound =
    typeof mediaType === "string" && typeof digest === "string" && isDigest(digest) && Number.isSafeInteger(size);
  if (!isSound) {
    throw failure(ErrorKind.InvalidArgument, "referrers index has an entry that is no descriptor");
  }
  return value as Descriptor;
}
