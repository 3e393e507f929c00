import { ErrorKind, failure } from "#base/errors.ts";
import { allCapabilities, type RegistryHost } from "../hosts/host.ts";
import { type HttpResponse, headerOf } from "../http/http-message.ts";
import { RegistryError } from "../http/registry-error.ts";
import { safeUrl } from "../http/safe-url.ts";
import { statusError } from "../http/status-error.ts";
import { isKeptAsManifest } from "../media-type.ts";
import type { ByteStream, Descriptor } from "../ports.ts";
import { askInOrder, type Repository } from "../repository.ts";
import { decodeBody, encodingsOf } from "./content-decoding.ts";

/** Which bytes of a descriptor are wanted: from `start` up to but not including `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** What is fetched, from where, and for how long. */
export interface ContentSource {
  readonly repository: Repository;
  readonly descriptor: Descriptor;
  readonly signal: AbortSignal;
  /** Is told which of the repository's hosts serves. */
  readonly onHost?: (host: RegistryHost) => void;
}

/** Bytes on their way. */
export interface OpenedContent {
  /** From the wanted start to the wanted end, or to the end of the whole where the server has ignored the range. */
  readonly body: ByteStream;
  /** The server has sent the whole, of which what lies before the start is dropped. */
  readonly ignoresRange: boolean;
}

/**
 * Asks for bytes of a descriptor: at its own URLs if it has any, and then at one host after another.
 *
 * @throws {@link FlotillaError} `not_found` in containerd's words; {@link RegistryError}
 * @source containerd v2.3.4 core/remotes/docker/fetcher.go `dockerFetcher.Fetch`, `open`
 */
export async function openContent(source: ContentSource, range: ByteRange): Promise<OpenedContent> {
  const { repository, descriptor, signal } = source;
  const hosts = repository.hostsFor("pull");
  if (hosts.length === 0) {
    throw failure(ErrorKind.NotFound, "no pull hosts");
  }
  const { digest, mediaType, size } = descriptor;
  const headers = headersFor(mediaType, range, size);
  for (const url of foreignUrls(descriptor)) {
    const opened = await openForeign(repository, url, { headers, range, size, signal });
    if (opened !== undefined) {
      return opened;
    }
  }
  const path = `${isKeptAsManifest(mediaType) ? "manifests" : "blobs"}/${digest}`;
  try {
    return await askInOrder(
      repository,
      hosts,
      async (host, isLastHost) => {
        const response = await repository.send({ host, method: "GET", path, headers, isLastHost, signal });
        const opened = await acceptAnswer(response, range, size);
        source.onHost?.(host);
        return opened;
      },
      signal,
    );
  } catch (error) {
    if (error instanceof RegistryError && error.status === 404 && !isKeptAsManifest(mediaType)) {
      const message = `could not fetch content descriptor ${digest} (${mediaType}) from remote: not found`;
      throw new RegistryError(ErrorKind.NotFound, message, { status: 404, refusal: "status", cause: error });
    }
    throw error;
  }
}

function headersFor(mediaType: string, { start, end }: ByteRange, size: number): Record<string, string> {
  const last = end < size ? String(end - 1) : "";
  return {
    accept: mediaType === "" ? "*/*" : `${mediaType}, */*`,
    // A range of what is encoded on the way would be a range of something else.
    "accept-encoding": "identity",
    ...(start > 0 || end < size ? { range: `bytes=${start}-${last}` } : {}),
  };
}

/** Where a layer lies that no registry may keep. @source OCI image-spec v1.1 descriptor.md `urls` */
function foreignUrls({ urls = [] }: Descriptor): URL[] {
  return urls.filter((text) => /^https?:\/\//i.test(text) && URL.canParse(text)).map((text) => new URL(text));
}

interface Wanted {
  readonly headers: Record<string, string>;
  readonly range: ByteRange;
  readonly size: number;
  readonly signal: AbortSignal;
}

/** @returns undefined when it is not there, and the next place is to be asked. */
async function openForeign(repository: Repository, url: URL, wanted: Wanted): Promise<OpenedContent | undefined> {
  const { headers, range, size, signal } = wanted;
  const response = await repository.client.send({
    host: foreignHost(url),
    method: "GET",
    url,
    headers,
    scopes: [],
    isForeign: true,
    isLastHost: true,
    signal,
  });
  if (response.status === 404) {
    await response.discard();
    return undefined;
  }
  return acceptAnswer(response, range, size);
}

function foreignHost(url: URL): RegistryHost {
  const scheme = url.protocol === "http:" ? "http" : "https";
  const { host } = url;
  return { scheme, host, path: "", capabilities: allCapabilities, headers: [], fallsBackToHttp: false };
}

async function acceptAnswer(response: HttpResponse, range: ByteRange, size: number): Promise<OpenedContent> {
  const { status } = response;
  if (status > 299) {
    const error = await statusError(response);
    if (status === 404) {
      const message = `content at ${safeUrl(response.url)} not found: not found`;
      throw new RegistryError(ErrorKind.NotFound, message, { status, refusal: "status", cause: error });
    }
    throw error;
  }
  try {
    return status === 206 ? acceptPart(response, range, size) : acceptWhole(response, range, size);
  } catch (error) {
    await response.discard().catch(() => undefined);
    throw error;
  }
}

function acceptPart(response: HttpResponse, { start, end }: ByteRange, size: number): OpenedContent {
  const said = headerOf(response, "content-range") ?? "";
  const [, first, , total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(said) ?? [];
  if (Number(first) !== start || encodingsOf(response).length > 0) {
    throw new RegistryError(ErrorKind.Unknown, `unhandled content range in response: ${said.slice(0, 100)}`);
  }
  if (total !== "*" && Number(total) !== size) {
    throw wrongLength(response, total ?? "?", size);
  }
  return { body: exactly(response.body, end - start), ignoresRange: false };
}

function acceptWhole(response: HttpResponse, { start, end }: ByteRange, size: number): OpenedContent {
  const length = headerOf(response, "content-length");
  const isEncoded = encodingsOf(response).length > 0;
  if (!isEncoded && length !== undefined && Number(length) !== size) {
    throw wrongLength(response, length, size);
  }
  return {
    body: exactly(after(decodeBody(response), start), size - start),
    ignoresRange: start > 0 || end < size,
  };
}

function wrongLength(response: HttpResponse, length: string, size: number): RegistryError {
  const message = `content at ${safeUrl(response.url)} has ${length.slice(0, 20)} bytes, expected ${size}`;
  return new RegistryError(ErrorKind.FailedPrecondition, `${message}: ${ErrorKind.FailedPrecondition}`);
}

/** The body without its first bytes. */
async function* after(body: ByteStream, skippedBytes: number): AsyncGenerator<Uint8Array> {
  let left = skippedBytes;
  for await (const piece of body) {
    if (piece.length > left) {
      yield left === 0 ? piece : piece.subarray(left);
      left = 0;
    } else {
      left -= piece.length;
    }
  }
}

/** The body, which must have this length. One that ends early may be gone on with. */
async function* exactly(body: ByteStream, lengthBytes: number): AsyncGenerator<Uint8Array> {
  let left = lengthBytes;
  for await (const piece of body) {
    if (piece.length > left) {
      const message = `registry sent more than the expected ${lengthBytes} bytes: ${ErrorKind.FailedPrecondition}`;
      throw new RegistryError(ErrorKind.FailedPrecondition, message);
    }
    left -= piece.length;
    yield piece;
  }
  if (left > 0) {
    throw new RegistryError(ErrorKind.Unknown, "unexpected EOF", { isTransient: true });
  }
}
