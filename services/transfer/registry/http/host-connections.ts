import { Readable } from "node:stream";
import { Agent, type Dispatcher, EnvHttpProxyAgent } from "undici";
import { freeMemory } from "#base/free-memory.ts";
import { abortReason } from "#wire/session-holder.ts";
import type { HostTls, RegistryHost } from "../hosts/host.ts";
import { connectionError, isConnectionRefused, isNotTls } from "./connection-error.ts";
import type { HttpRequest, HttpResponse, RequestBody } from "./http-message.ts";
import { describeAttempt } from "./safe-url.ts";
import { SendingWatch } from "./sending-watch.ts";
import { loadTlsSettings } from "./tls-settings.ts";

interface Agents {
  readonly direct: Agent;
  readonly proxied: EnvHttpProxyAgent;
}

/** @source containerd v2.3.4 core/remotes/docker/registry.go `DefaultHTTPTransport` */
const timeouts = { dialMs: 30_000, idleMs: 30_000 } as const;
/** Connections to one origin; more requests than that wait for one. */
const connectionsMax = 32;
/** Largest block of headers in an answer. @source Node.js documentation, `--max-http-header-size` */
const headerBytesMax = 16 * 1024;
/** How much of an unwanted body is read for the sake of its connection. */
const discardBytesMax = 64 * 1024;
const discardMsMax = 1000;

/**
 * The connections to one host and to where it redirects, with the host's certificates and times.
 *
 * A host that may fall back is asked by HTTPS until it has answered in HTTP; from then on by HTTP alone.
 */
export class HostConnections implements AsyncDisposable {
  readonly #host: RegistryHost;
  readonly #noProgressMs: number;
  readonly #agents = new Map<string, Promise<Agents>>();
  #isPlain = false;

  constructor(host: RegistryHost, noProgressMs: number) {
    this.#host = host;
    this.#noProgressMs = noProgressMs;
  }

  /**
   * Sends one request and returns when the head of the answer is there. Follows nothing and tries nothing twice, but for
   * the step from HTTPS to HTTP.
   *
   * @throws {@link FlotillaError} `canceled` or the signal's reason; {@link RegistryError} with the words of Go's client.
   */
  async send(request: HttpRequest): Promise<HttpResponse> {
    const { host } = this.#host;
    const mayFallBack = this.#host.fallsBackToHttp && request.url.protocol === "https:" && request.url.host === host;
    if (mayFallBack && this.#isPlain) {
      return this.#sendOnce(inPlainHttp(request));
    }
    try {
      return await this.#sendOnce(request);
    } catch (error) {
      const { cause } = error as Error;
      const answersElsewhere = isNotTls(cause) || (isConnectionRefused(cause) && request.url.port === "");
      if (!mayFallBack || !answersElsewhere) {
        throw error;
      }
      this.#isPlain = true;
      return this.#sendOnce(inPlainHttp(request));
    }
  }

  async #sendOnce(request: HttpRequest): Promise<HttpResponse> {
    const { method, url, headers, body, signal } = request;
    const context = describeAttempt(request);
    const answerMs = request.answerMsMax ?? this.#noProgressMs;
    const fail = (error: unknown, waitedMs: number): Error =>
      signal.aborted ? abortReason(signal) : connectionError(error, context, url, waitedMs);
    let answer: Dispatcher.ResponseData;
    using watch = new SendingWatch(this.#noProgressMs, signal);
    try {
      const dispatcher = await this.#dispatcherFor(url);
      signal.throwIfAborted();
      answer = await dispatcher.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers: {
          ...headers,
          ...(body === undefined ? {} : { "content-length": String(body.lengthBytes) }),
        } as Record<string, string | string[]>,
        body: body === undefined ? null : openBody(body, watch),
        signal: watch.signal,
        headersTimeout: answerMs,
        bodyTimeout: this.#noProgressMs,
        // undici would close the connection after every HEAD.
        reset: false,
      });
    } catch (error) {
      throw fail(error, answerMs);
    }
    const stream = answer.body;
    // Whoever reads the body is told of its failure; if nobody does, it is nobody's.
    stream.on("error", () => undefined);
    return {
      status: answer.statusCode,
      statusText: answer.statusText,
      headers: answer.headers,
      body: readBody(stream, (error) => fail(error, this.#noProgressMs)),
      discard: async () => {
        // A body that does not end soon costs its connection.
        await stream.dump({ limit: discardBytesMax, signal: AbortSignal.timeout(discardMsMax) }).catch(() => undefined);
        if (signal.aborted) {
          throw abortReason(signal);
        }
      },
      method,
      url,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const opened = [...this.#agents.values()].map(async (opening) => {
      const agents = await opening.catch(() => undefined);
      await Promise.all([agents?.direct.destroy(), agents?.proxied.destroy()]);
    });
    await Promise.all(opened);
  }

  /** Certificates are read when they are needed. */
  async #dispatcherFor({ protocol, hostname }: URL): Promise<Dispatcher> {
    const opening = this.#agents.get(protocol) ?? this.#openAgents(protocol);
    this.#agents.set(protocol, opening);
    const { direct, proxied } = await opening;
    return isLoopback(hostname) || !hasProxy(protocol) ? direct : proxied;
  }

  async #openAgents(protocol: string): Promise<Agents> {
    const { tls, scheme, dialTimeoutMs } = this.#host;
    const timeout = dialTimeoutMs === undefined || dialTimeoutMs <= 0 ? timeouts.dialMs : dialTimeoutMs;
    const settings =
      protocol === "https:" ? await loadTlsSettings(scheme === "http" ? withoutClient(tls) : tls) : undefined;
    const options = {
      allowH2: false,
      connections: connectionsMax,
      pipelining: 1,
      keepAliveTimeout: timeouts.idleMs,
      maxHeaderSize: headerBytesMax,
      connect: { ...settings, timeout },
    };
    return {
      direct: new Agent(options),
      proxied: new EnvHttpProxyAgent(settings === undefined ? options : { ...options, requestTls: settings }),
    };
  }
}

/** Certificates of a host that is asked by HTTP count for where it redirects; who we are is not shown there. */
function withoutClient(tls: HostTls | undefined): HostTls | undefined {
  return tls === undefined ? undefined : { ...tls, clientFiles: [] };
}

function openBody(body: RequestBody, watch: SendingWatch): Uint8Array | Readable {
  const opened = body.open();
  return opened instanceof Uint8Array ? opened : Readable.from(watch.follow(opened), { objectMode: false });
}

async function* readBody(stream: Readable, fail: (error: unknown) => Error): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of stream as AsyncIterable<Uint8Array>) {
      yield piece;
      // Mostly a piece is what one read of the socket gave, and nothing else is in its memory.
      if (piece.byteLength === piece.buffer.byteLength) {
        freeMemory(piece.buffer);
      }
    }
  } catch (error) {
    throw fail(error);
  }
}

function inPlainHttp(request: HttpRequest): HttpRequest {
  const url = new URL(request.url);
  url.protocol = "http:";
  return { ...request, url };
}

/**
 * Tells whether the environment names a proxy for a scheme. That for HTTP is none for HTTPS, as undici would have it.
 *
 * @source Go golang.org/x/net/http/httpproxy `FromEnvironment`
 */
function hasProxy(protocol: string): boolean {
  const name = protocol === "https:" ? "https_proxy" : "http_proxy";
  return [name, name.toUpperCase()].some((variable) => (process.env[variable] ?? "") !== "");
}

/** Hosts that are never asked through a proxy. @source Go net/http/transport.go `ProxyFromEnvironment` */
function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\.[0-9.]+$/.test(hostname);
}
