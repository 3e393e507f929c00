import { ErrorKind } from "#base/errors.ts";
import { allCapabilities, type RegistryHost } from "../hosts/host.ts";
import type { HttpRequest, HttpResponse, RequestBody } from "../http/http-message.ts";
import { headerOf } from "../http/http-message.ts";
import { RegistryError } from "../http/registry-error.ts";
import { statusError } from "../http/status-error.ts";
import type { Repository } from "../repository.ts";

/** A registry may need its time to check and move what has been sent, after the last byte. */
const finishMsMax = 300_000;

/** An upload that a registry has begun. */
export interface UploadSession {
  /** Where the next request goes. */
  readonly url: URL;
  /** It is another host than the one that was asked: it gets no secrets. */
  readonly isForeign: boolean;
  /** Bytes that the registry has. */
  readonly offset: number;
  /** The smallest piece that the registry takes, but for the last one. */
  readonly chunkBytesMin: number;
}

/** Speaks to one host about uploads to one repository. */
export class UploadClient {
  readonly #repository: Repository;
  readonly #host: RegistryHost;
  readonly #signal: AbortSignal;

  constructor(repository: Repository, host: RegistryHost, signal: AbortSignal) {
    this.#repository = repository;
    this.#host = host;
    this.#signal = signal;
  }

  /**
   * Begins an upload.
   *
   * @param mount - A blob that the registry is asked to take from another repository instead.
   * @returns "mounted" when it has done so.
   * @throws {@link RegistryError}
   */
  async begin(mount?: { readonly digest: string; readonly from: string }): Promise<UploadSession | "mounted"> {
    const scopes = this.#repository.scopes("push");
    const response = await this.#repository.send({
      host: this.#host,
      method: "POST",
      path: "blobs/uploads/",
      ...(mount === undefined ? {} : { query: { mount: mount.digest, from: mount.from } }),
      scopes: mount === undefined ? scopes : [...scopes, `repository:${mount.from}:pull`],
      body: emptyBody,
      isLastHost: true,
      signal: this.#signal,
    });
    if (response.status === 201 && mount !== undefined) {
      await response.discard();
      return "mounted";
    }
    const chunkBytesMin = Number(headerOf(response, "oci-chunk-min-length") ?? 0) || 0;
    const isForeign = false;
    return this.#accept(response, { url: response.url, isForeign, offset: 0, chunkBytesMin }, [200, 202, 204]);
  }

  /** Sends bytes to where the upload has come to. @returns where it is then. */
  async append(session: UploadSession, body: RequestBody): Promise<UploadSession> {
    const end = session.offset + body.lengthBytes;
    const headers = {
      "content-type": "application/octet-stream",
      "content-range": `${session.offset}-${end - 1}`,
    };
    const response = await this.#send(session, { method: "PATCH", url: session.url, headers, body });
    const next = await this.#accept(response, session, [200, 201, 202, 204]);
    const offset = readOffset(response) ?? end;
    if (offset > end) {
      throw new RegistryError(ErrorKind.Unknown, `registry claims to have ${offset} bytes, sent were ${end}`);
    }
    return { ...next, offset };
  }

  /** Asks how far an upload is. @returns undefined when the registry does not say, or has thrown it away. */
  async findProgress(session: UploadSession): Promise<UploadSession | undefined> {
    const response = await this.#send(session, { method: "GET", url: session.url, headers: {} });
    const offset = readOffset(response);
    if (response.status > 299 || offset === undefined) {
      await response.discard();
      return undefined;
    }
    return { ...(await this.#accept(response, session, [200, 202, 204])), offset };
  }

  /** Ends an upload, with all of its bytes or with none if they are there. @throws {@link RegistryError} */
  async finish(session: UploadSession, digest: string, body: RequestBody = emptyBody): Promise<void> {
    const url = new URL(session.url);
    url.searchParams.append("digest", digest);
    const headers = { "content-type": "application/octet-stream" };
    const response = await this.#send(session, { method: "PUT", url, headers, body });
    await checkStored(response, digest);
  }

  #send(
    session: UploadSession,
    request: Pick<HttpRequest, "method" | "url" | "headers" | "body">,
  ): Promise<HttpResponse> {
    const { isForeign, url } = session;
    return this.#repository.client.send({
      host: isForeign ? foreignHost(url, this.#host) : this.#host,
      method: request.method,
      url: request.url,
      headers: request.headers as Record<string, string>,
      ...(request.body === undefined ? {} : { body: request.body }),
      scopes: this.#repository.scopes("push"),
      isForeign,
      // What has been sent half is not sent again as it was: the upload has moved.
      isLastHost: request.method === "GET",
      answerMsMax: Math.max(finishMsMax, this.#repository.settings.noProgressMs),
      signal: this.#signal,
    });
  }

  async #accept(response: HttpResponse, session: UploadSession, statuses: readonly number[]): Promise<UploadSession> {
    if (!statuses.includes(response.status)) {
      throw await statusError(response);
    }
    await response.discard();
    const location = headerOf(response, "location");
    if (location === undefined) {
      return session;
    }
    const absolute =
      location.startsWith("/") || location.includes("://") ? location : `${response.url.protocol}//${location}`;
    if (!URL.canParse(absolute, response.url)) {
      throw new RegistryError(ErrorKind.Unknown, "unable to parse location of an upload");
    }
    const url = new URL(absolute, response.url);
    return { ...session, url, isForeign: session.isForeign || url.origin !== response.url.origin };
  }
}

/**
 * Checks the answer to what ends an upload.
 *
 * @throws {@link RegistryError} unless the registry has stored what was meant.
 * @source containerd v2.3.4 core/remotes/docker/pusher.go `pushWriter.Commit`
 */
export async function checkStored(response: HttpResponse, digest: string): Promise<void> {
  if (![200, 201, 202, 204].includes(response.status)) {
    throw await statusError(response);
  }
  const stored = headerOf(response, "docker-content-digest");
  await response.discard();
  if (stored !== undefined && stored !== "" && stored !== digest) {
    throw new RegistryError(ErrorKind.Unknown, `got digest ${stored.slice(0, 200)}, expected ${digest}`);
  }
}

const emptyBody: RequestBody = { lengthBytes: 0, open: () => new Uint8Array() };

/** How many bytes an answer says the registry has. @source distribution/distribution-spec v1.1 spec.md "Pushing a blob in chunks" */
function readOffset(response: HttpResponse): number | undefined {
  const last = /^(?:bytes=)?0-(\d{1,15})$/.exec(headerOf(response, "range") ?? "")?.[1];
  if (last === undefined) {
    return undefined;
  }
  // `0-0` is said of nothing as well as of one byte; nothing is the safe reading.
  return last === "0" ? 0 : Number(last) + 1;
}

function foreignHost(url: URL, { dialTimeoutMs, tls }: RegistryHost): RegistryHost {
  return {
    scheme: url.protocol === "http:" ? "http" : "https",
    host: url.host,
    path: "",
    capabilities: allCapabilities,
    headers: [],
    ...(tls === undefined ? {} : { tls: { ...tls, clientFiles: [] } }),
    ...(dialTimeoutMs === undefined ? {} : { dialTimeoutMs }),
    fallsBackToHttp: false,
  };
}
