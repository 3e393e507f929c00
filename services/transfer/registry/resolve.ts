import { createHash } from "node:crypto";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type Digest, digestOfHash, findDigestFault, isDigest } from "#containerd/digest.ts";
import { type HttpResponse, headerOf } from "./http/http-message.ts";
import { RegistryError, wrapRegistryError } from "./http/registry-error.ts";
import { statusError } from "./http/status-error.ts";
import { mediaTypes } from "./media-type.ts";
import type { Descriptor } from "./ports.ts";
import { askInOrder, type Repository, type RepositoryRequest } from "./repository.ts";

/**
 * Largest manifest that a registry may give; the number is containerd's own slip of 4 MiB.
 *
 * @source containerd v2.3.4 core/remotes/docker/resolver.go `MaxManifestSize`
 */
export const manifestBytesMax = 4 * 1048 * 1048;

const acceptedTypes = [
  mediaTypes.dockerManifest,
  mediaTypes.dockerManifestList,
  mediaTypes.ociManifest,
  mediaTypes.ociIndex,
  "*/*",
].join(", ");

/** What is asked for, and of whom. */
interface Question {
  readonly repository: Repository;
  /** The whole reference, for error texts. */
  readonly name: string;
  readonly request: RepositoryRequest;
}

/**
 * Finds what the name of an image stands for: by HEAD, and by GET where that leaves size or digest open.
 *
 * The digest of a tag is the word of the first host that may resolve. A digest in the reference is looked for among the
 * manifests, and among the blobs when no host has it there.
 *
 * @param options.accept - What the client accepts, if it says so.
 * @throws {@link FlotillaError} `not_found` in containerd's words; `invalid_argument` for the manifests of old dockers.
 * @source containerd v2.3.4 core/remotes/docker/resolver.go `dockerResolver.Resolve`
 */
export async function resolveReference(
  repository: Repository,
  name: string,
  options: { readonly accept?: string | undefined; readonly signal: AbortSignal },
): Promise<Descriptor> {
  const { tag, digest } = repository.reference;
  if (tag === "" && digest === "") {
    throw new FlotillaError(ErrorKind.Unknown, "object required");
  }
  const fault = digest === "" ? undefined : findDigestFault(digest);
  if (fault !== undefined) {
    throw new FlotillaError(ErrorKind.Unknown, fault);
  }
  const hosts = digest === "" ? repository.hostsFor("pull", "resolve") : repository.hostsFor("pull");
  if (hosts.length === 0) {
    throw failure(ErrorKind.NotFound, "no resolve hosts");
  }
  const askFor = (path: string): Promise<Descriptor> =>
    askInOrder(
      repository,
      hosts,
      (host, isLastHost) => {
        const headers = { accept: options.accept ?? acceptedTypes };
        const request = { host, method: "HEAD", path, headers, isLastHost, signal: options.signal } as const;
        return askHost({ repository, name, request });
      },
      options.signal,
    );
  if (digest === "") {
    return askFor(`manifests/${tag}`);
  }
  try {
    return await askFor(`manifests/${digest}`);
  } catch (error) {
    // Only where nobody has such a manifest; anything else may be a passing trouble, after which it is a manifest again.
    if (!(error instanceof RegistryError) || error.status !== 404) {
      throw error;
    }
    return askFor(`blobs/${digest}`);
  }
}

async function askHost(question: Question): Promise<Descriptor> {
  const { repository, name, request } = question;
  const response = await sendResolving(repository, request);
  const { status } = response;
  if (status > 299) {
    const explained =
      status === 403 && response.method === "HEAD" ? await explainRefusal(repository, request) : undefined;
    const error = explained ?? (await statusError(response));
    await response.discard();
    throw status === 404 ? notFound(name, error) : error;
  }
  const said = digestFrom(repository, response);
  const sizeBytes = lengthOf(response);
  if (said !== undefined && sizeBytes !== undefined && response.method === "HEAD") {
    await response.discard();
    return checkSize(name, { mediaType: mediaTypeOf(response), digest: said, size: sizeBytes });
  }
  if (response.method === "GET") {
    return readWhole(question, response, said);
  }
  await response.discard();
  const whole = await sendResolving(repository, { ...request, method: "GET" });
  if (whole.status > 299) {
    throw await statusError(whole);
  }
  return readWhole(question, whole, said);
}

async function sendResolving(repository: Repository, request: RepositoryRequest): Promise<HttpResponse> {
  try {
    return await repository.send(request);
  } catch (error) {
    const isDenied = error instanceof RegistryError && error.refusal === "credentials";
    throw isDenied
      ? wrapRegistryError(error, "pull access denied, repository does not exist or may require authorization")
      : error;
  }
}

/** A refused HEAD has no body. The same by GET may tell the reason. */
async function explainRefusal(repository: Repository, request: RepositoryRequest): Promise<RegistryError | undefined> {
  try {
    const response = await repository.send({ ...request, method: "GET", isLastHost: false });
    const error = await statusError({ ...response, method: request.method });
    return error.status === 403 ? error : undefined;
  } catch {
    return undefined;
  }
}

/** The digest in the reference, or the one that the answer claims. */
function digestFrom(repository: Repository, response: HttpResponse): Digest | undefined {
  const { digest } = repository.reference;
  if (isDigest(digest)) {
    return digest;
  }
  const claimed = headerOf(response, "docker-content-digest");
  if (claimed === undefined || claimed === "") {
    return undefined;
  }
  const fault = findDigestFault(claimed);
  if (fault !== undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `${quote(claimed)} in header not a valid digest: ${fault}`);
  }
  return claimed as Digest;
}

function lengthOf(response: HttpResponse): number | undefined {
  const length = headerOf(response, "content-length");
  return length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : undefined;
}

/** Some registries give their old manifests as plain text. */
function mediaTypeOf(response: HttpResponse): string {
  const mediaType = (headerOf(response, "content-type") ?? "").replace(/;.*$/s, "").trim();
  return mediaType === "text/plain" ? mediaTypes.dockerSchema1 : mediaType;
}

async function readWhole({ name }: Question, response: HttpResponse, said: Digest | undefined): Promise<Descriptor> {
  const mediaType = mediaTypeOf(response);
  if (said === undefined && mediaType === mediaTypes.dockerSchema1) {
    await response.discard();
    const [old, next, oci] = [mediaTypes.dockerSchema1, mediaTypes.dockerManifest, mediaTypes.ociManifest].map(quote);
    // containerd says `not implemented` here, which makes clients look for another way to pull instead of telling the reason.
    throw failure(
      ErrorKind.InvalidArgument,
      `media type ${old} is no longer supported since containerd v2.0, please rebuild the image as ${next} or ${oci}`,
    );
  }
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const piece of response.body) {
    hash.update(piece);
    sizeBytes += piece.length;
    if (sizeBytes > manifestBytesMax) {
      break;
    }
  }
  return checkSize(name, { mediaType, digest: said ?? digestOfHash(hash), size: sizeBytes });
}

function checkSize(name: string, descriptor: Descriptor): Descriptor {
  if (descriptor.size > manifestBytesMax) {
    throw failure(ErrorKind.NotFound, `rejecting ${descriptor.size} byte manifest for ${name}`);
  }
  return descriptor;
}

function notFound(name: string, cause: unknown): RegistryError {
  return new RegistryError(ErrorKind.NotFound, `${name}: not found`, { status: 404, refusal: "status", cause });
}
