import http from "node:http";
import http2 from "node:http2";
import type { Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { prefaceMsMax } from "#wire/http2/limits.ts";
import { SessionHolder } from "#wire/session-holder.ts";
import { encodeConnectError, Refusal } from "./answer.ts";
import { keptRequestBytesMax, resendsMax } from "./limits.ts";
import { describeMissingRoute, findRoute, type RelayMethod, type RelayRoutes } from "./route.ts";

export interface Http1Options {
  readonly routes: RelayRoutes;
  /** How long a call waits for a process that is being restarted. */
  readonly heldMsMax: number;
  connectUpstream(upstream: string): Socket;
}

/** Headers that concern one connection only. @source RFC 9110 section 7.6.1, RFC 9113 section 8.2.2 */
const hopHeaders = new Set([
  "connection",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/**
 * Serves clients that speak HTTP/1.1, such as `curl` with the Connect protocol in JSON, and gRPC-web: each request goes
 * to the owner of its path. Calls wait for a process that is being restarted as those of HTTP/2 clients do.
 */
export class Http1Front {
  readonly #options: Http1Options;
  /** The sessions to the processes, each shared by all clients. */
  readonly #sessions = new Map<string, SessionHolder>();
  readonly #server: http.Server;
  readonly #sockets = new Set<Socket>();
  #requests = 0;
  #onIdle: (() => void) | undefined;

  constructor(options: Http1Options) {
    this.#options = options;
    this.#server = http.createServer({ headersTimeout: prefaceMsMax, requestTimeout: 0 }, (request, response) => {
      this.#requests += 1;
      response.once("close", () => {
        this.#requests -= 1;
        if (this.#requests === 0) {
          this.#onIdle?.();
        }
      });
      this.#answer(request, response).catch(() => response.destroy());
    });
    // The server never listens itself; this starts the check of its time limits as listening would.
    this.#server.emit("listening");
  }

  /** Takes a connection over, with what was already read from it. */
  accept(socket: Socket, head: Buffer): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.unshift(head);
    this.#server.emit("connection", socket);
    socket.resume();
  }

  /** Lets the running requests end, and ends those that take longer. */
  async close(drainMs: number): Promise<void> {
    if (this.#requests > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, drainMs);
        this.#onIdle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    this.#server.close();
    this.#sessions.forEach((sessions) => sessions.close());
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const target = request.url ?? "";
    const method = findRoute(this.#options.routes, target);
    if (method === undefined) {
      refuse(response, Refusal.Unimplemented, describeMissingRoute(this.#options.routes, target));
      return;
    }
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    try {
      await this.#relay(method, request, response, gone.signal);
    } catch (error) {
      if (response.headersSent) {
        response.destroy();
      } else {
        refuse(response, Refusal.Unavailable, errorMessage(error));
      }
    }
  }

  #sessionsTo(upstream: string): SessionHolder {
    let sessions = this.#sessions.get(upstream);
    if (sessions === undefined) {
      const options = this.#options;
      sessions = new SessionHolder({
        name: `process ${upstream}`,
        heldMsMax: options.heldMsMax,
        connect: () => options.connectUpstream(upstream),
      });
      this.#sessions.set(upstream, sessions);
    }
    return sessions;
  }

  async #relay(
    method: RelayMethod,
    request: http.IncomingMessage,
    response: http.ServerResponse,
    gone: AbortSignal,
  ): Promise<void> {
    const unsaid = request.headers["transfer-encoding"] === undefined ? 0 : Number.POSITIVE_INFINITY;
    const lengthBytes = Number(request.headers["content-length"] ?? unsaid);
    const canKeep = method.repeatable && lengthBytes <= keptRequestBytesMax;
    const kept = canKeep ? Buffer.concat(await request.toArray()) : undefined;
    for (let resends = 0; ; resends++) {
      const session = await this.#sessionsTo(method.upstream).get(gone);
      const stream = session.request(requestHeaders(request), { endStream: kept?.length === 0 });
      const isOver = await exchange(stream, kept ?? request, response, gone);
      if (isOver) {
        return;
      }
      if (kept === undefined || resends === resendsMax) {
        throw failure(ErrorKind.Unavailable, `connection to process ${method.upstream} was lost`);
      }
    }
  }
}

/** Makes one try. Resolves to false when the stream was lost before the response began. */
function exchange(
  stream: http2.ClientHttp2Stream,
  body: Buffer | http.IncomingMessage,
  response: http.ServerResponse,
  gone: AbortSignal,
): Promise<boolean> {
  return new Promise((resolve) => {
    let hasResponse = false;
    const cancel = (): void => stream.close(http2.constants.NGHTTP2_CANCEL);
    gone.addEventListener("abort", cancel, { once: true });
    stream.once("response", (headers) => {
      hasResponse = true;
      response.writeHead(headers[":status"] ?? 200, responseHeaders(headers));
      response.flushHeaders();
      stream.on("trailers", (trailers: http2.IncomingHttpHeaders) => response.addTrailers(responseHeaders(trailers)));
      pipeline(stream, response).catch(() => response.destroy());
    });
    stream.on("error", () => undefined);
    stream.once("close", () => {
      gone.removeEventListener("abort", cancel);
      resolve(hasResponse || gone.aborted);
    });
    if (Buffer.isBuffer(body)) {
      if (body.length > 0) {
        stream.end(body);
      }
    } else {
      pipeline(body, stream).catch(() => stream.close(http2.constants.NGHTTP2_CANCEL));
    }
  });
}

function requestHeaders(request: http.IncomingMessage): http2.OutgoingHttpHeaders {
  const headers: http2.OutgoingHttpHeaders = {
    ":method": request.method ?? "POST",
    ":path": request.url ?? "/",
    ":authority": request.headers.host ?? "localhost",
  };
  const named = (request.headers.connection ?? "").toLowerCase().split(/\s*,\s*/);
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined && !hopHeaders.has(name) && !named.includes(name)) {
      headers[name] = value;
    }
  }
  return headers;
}

function responseHeaders(received: http2.IncomingHttpHeaders): http.OutgoingHttpHeaders {
  const headers: http.OutgoingHttpHeaders = {};
  for (const [name, value] of Object.entries(received)) {
    if (value !== undefined && !name.startsWith(":")) {
      headers[name] = value;
    }
  }
  return headers;
}

function refuse(response: http.ServerResponse, refusal: Refusal, message: string): void {
  const body = encodeConnectError(refusal, message);
  response.writeHead(refusal.httpStatus, { "content-type": "application/json", "content-length": body.length });
  response.end(body);
}
