import { ErrorKind } from "#base/errors.ts";
import type { RegistryHost } from "../hosts/host.ts";
import type { RegistriesSettings, RegistryRequest } from "../ports.ts";
import type { Authorizer } from "./authorizer.ts";
import { describeRequest, describeResponse } from "./exchange-text.ts";
import { HostConnections } from "./host-connections.ts";
import { type HttpRequest, type HttpResponse, headerOf, headersOf, type RequestBody } from "./http-message.ts";
import { RegistryError } from "./registry-error.ts";
import { describeAttempt } from "./safe-url.ts";
import { Warnings } from "./warnings.ts";

/** @source Go net/http/client.go `defaultCheckRedirect` */
const redirectsMax = 10;
/** Clients and files may not decide on these: they belong to the connection. */
const ownHeaders: readonly string[] = [
  "host",
  "content-length",
  "transfer-encoding",
  "connection",
  "upgrade",
  "expect",
];
/** What goes along to another host: what says which bytes are wanted, never what says who we are. */
const harmlessHeaders: readonly string[] = ["accept", "accept-encoding", "range", "user-agent", "content-type"];

/** A request to one of the hosts of a registry. */
export interface ClientRequest {
  readonly host: RegistryHost;
  readonly method: HttpRequest["method"];
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: RequestBody;
  /** What the token has to allow, as in `repository:a/b:pull`. */
  readonly scopes: readonly string[];
  /** The URL is somebody else's: it gets no secrets and none of the client's headers. */
  readonly isForeign?: boolean;
  readonly answerMsMax?: number;
  readonly signal: AbortSignal;
}

/** An answer, and what was shown to get it. */
export interface Exchanged {
  readonly response: HttpResponse;
  /** The value of `Authorization`, undefined for none. */
  readonly sent: string | undefined;
}

/** What all requests to one registry have in common. */
export interface ExchangeOptions extends Pick<RegistryRequest, "onWarning" | "onExchange" | "headers"> {
  readonly userAgent: string;
  readonly settings: Pick<RegistriesSettings, "noProgressMs">;
}

/** Sends single requests to the hosts of a registry, with what they want to see of us, and follows redirects. */
export class Exchanges implements AsyncDisposable {
  readonly #options: ExchangeOptions;
  readonly #authorizer: Authorizer;
  readonly #warnings: Warnings;
  /** Of hosts by themselves, and of others by their origin. */
  readonly #connections = new Map<RegistryHost | string, HostConnections>();

  constructor(options: ExchangeOptions, authorizer: Authorizer) {
    this.#options = options;
    this.#authorizer = authorizer;
    this.#warnings = new Warnings((text) => options.onWarning?.(text));
  }

  /**
   * Sends a request and returns the answer, whatever its status, once it is no redirect.
   *
   * What says who we are goes to the host that was meant and, by the way that it was meant, nowhere else.
   *
   * @throws {@link RegistryError}
   */
  async send(request: ClientRequest): Promise<Exchanged> {
    let { url } = request;
    let sent: string | undefined;
    let origin: string | undefined;
    for (let redirects = 0; ; redirects += 1) {
      const isOwn = request.isForeign !== true && (origin === undefined || origin === url.origin);
      const authorization = isOwn ? await this.#authorize(request, url) : undefined;
      const headers = {
        ...this.#headersFor(request, isOwn),
        ...(authorization === undefined ? {} : { authorization }),
      };
      const response = await this.#sendOnce(request, { ...request, url, headers });
      sent ??= authorization;
      origin ??= response.url.origin;
      const location = redirectOf(request, response);
      if (location === undefined) {
        return { response, sent: isOwn ? sent : undefined };
      }
      await response.discard();
      if (redirects === redirectsMax - 1) {
        throw new RegistryError(
          ErrorKind.Unknown,
          `${describeAttempt(response)}: stopped after ${redirectsMax} redirects`,
        );
      }
      url = location;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#connections.values()].map((connections) => connections[Symbol.asyncDispose]()));
  }

  #authorize(request: ClientRequest, url: URL): Promise<string | undefined> {
    return this.#authorizer.authorize(url.host, request.scopes, (tokenRequest) => {
      const headers = { ...this.#headersFor(request, false), ...tokenRequest.headers };
      return this.#sendOnce(request, { ...tokenRequest, headers, signal: request.signal });
    });
  }

  async #sendOnce({ host, isForeign, url }: ClientRequest, request: HttpRequest): Promise<HttpResponse> {
    const key = isForeign === true ? url.origin : host;
    let connections = this.#connections.get(key);
    if (connections === undefined) {
      connections = new HostConnections(host, this.#options.settings.noProgressMs);
      this.#connections.set(key, connections);
    }
    this.#options.onExchange?.(describeRequest(request));
    const response = await connections.send(request);
    this.#options.onExchange?.(describeResponse(response));
    this.#warnings.take(headersOf(response, "warning"));
    return response;
  }

  #headersFor({ headers, host }: ClientRequest, isOwn: boolean): Record<string, string | string[]> {
    const merged = new Map<string, string[]>();
    const add = (name: string, value: string): void => {
      const key = name.toLowerCase();
      if (!ownHeaders.includes(key) && (isOwn || harmlessHeaders.includes(key))) {
        merged.set(key, [...(merged.get(key) ?? []), value]);
      }
    };
    if (isOwn) {
      Object.entries(this.#options.headers).forEach(([name, value]) => add(name, value));
      host.headers.forEach(([name, value]) => add(name, value));
    }
    for (const [name, value] of Object.entries(headers ?? {})) {
      merged.delete(name);
      add(name, value);
    }
    if (!merged.has("user-agent")) {
      add("user-agent", this.#options.userAgent);
    }
    return Object.fromEntries(
      [...merged].map(([name, values]) => [name, values.length === 1 ? (values[0] ?? "") : values]),
    );
  }
}

/** Where an answer sends us, if it does and the request can be sent there as it is. */
function redirectOf({ method, body }: ClientRequest, response: HttpResponse): URL | undefined {
  const isRedirect =
    method === "GET" || method === "HEAD" ? [301, 302, 303, 307, 308] : body === undefined ? [] : [307, 308];
  const location = headerOf(response, "location");
  if (!isRedirect.includes(response.status) || location === undefined) {
    return undefined;
  }
  if (!URL.canParse(location, response.url)) {
    throw new RegistryError(ErrorKind.Unknown, `${describeAttempt(response)}: failed to parse Location header`);
  }
  const url = new URL(location, response.url);
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    const scheme = url.protocol.replace(/:$/, "");
    throw new RegistryError(ErrorKind.Unknown, `${describeAttempt(response)}: unsupported protocol scheme "${scheme}"`);
  }
  url.username = "";
  url.password = "";
  return url;
}
