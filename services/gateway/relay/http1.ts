import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { writeCallId } from "#wire/call-id.ts";
import { prefaceMsMax } from "#wire/http2/limits.ts";
import { ErrorCode, FrameType, frameHeadBytes } from "#wire/http2/protocol.ts";
import type { MessageLimits } from "#wire/message-limits.ts";
import { type CallObserver, joinWatchers } from "#wire/observe.ts";
import { SessionHolder } from "#wire/session-holder.ts";
import { type ConnectionAccess, requestedCall } from "./access.ts";
import { codeOfStatus, encodeConnectError, Refusal } from "./answer.ts";
import { exchange, type Http1Call } from "./http1-exchange.ts";
import { keptRequestBytesMax, resendsMax } from "./limits.ts";
import type { RelayCounts } from "./relay-counts.ts";
import { describeMissingRoute, findRoute, pathOf, type RelayMethod, type RelayRoutes } from "./route.ts";

export interface Http1Options {
  readonly routes: RelayRoutes;
  /** How long a call waits for a process that is being restarted. */
  readonly heldMsMax: number;
  readonly messageLimits: MessageLimits;
  readonly counts: RelayCounts;
  /** Told of every call that is passed on. */
  readonly observer: CallObserver | undefined;
  connectUpstream(upstream: string): Duplex;
}

/**
 * Serves clients that speak HTTP/1.1, such as `curl` with the Connect protocol in JSON, and gRPC-web: each request goes
 * to the owner of its path. Calls wait for a process that is being restarted as those of HTTP/2 clients do.
 */
export class Http1Front {
  readonly #options: Http1Options;
  /** The sessions to the processes, each shared by all clients. */
  readonly #sessions = new Map<string, SessionHolder>();
  /** Made for the first client, since few speak HTTP/1.1 and the module takes memory. */
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();
  /** Sockets that have to send the head of a request in time; the server itself looks after that only when it listens. */
  readonly #awaitedHeads = new Map<Socket, NodeJS.Timeout>();
  readonly #accesses = new WeakMap<Socket, ConnectionAccess>();
  #requests = 0;
  #onIdle: (() => void) | undefined;

  constructor(options: Http1Options) {
    this.#options = options;
  }

  /**
   * Takes a connection over, with what was already read from it.
   *
   * @param access - What the client may call; undefined for everything.
   */
  accept(socket: Socket, head: Buffer, access: ConnectionAccess | undefined): void {
    this.#sockets.add(socket);
    if (access !== undefined) {
      this.#accesses.set(socket, access);
    }
    socket.once("close", () => {
      this.#sockets.delete(socket);
      this.#headSeen(socket);
    });
    this.#awaitHead(socket);
    socket.unshift(head);
    this.#server ??= this.#createServer();
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
    this.#server?.close();
    this.#sessions.forEach((sessions) => sessions.close());
  }

  #createServer(): Server {
    const server = createServer({ requestTimeout: 0 }, (request, response) => {
      this.#requests += 1;
      this.#headSeen(request.socket);
      response.once("close", () => {
        this.#awaitHead(request.socket);
        this.#requests -= 1;
        if (this.#requests === 0) {
          this.#onIdle?.();
        }
      });
      this.#answer(request, response).catch(() => response.destroy());
    });
    server.on("clientError", (error, socket) => endUnreadable(error, socket));
    return server;
  }

  #awaitHead(socket: Socket): void {
    this.#headSeen(socket);
    if (!socket.destroyed) {
      this.#awaitedHeads.set(
        socket,
        setTimeout(() => socket.destroy(), prefaceMsMax),
      );
    }
  }

  #headSeen(socket: Socket): void {
    clearTimeout(this.#awaitedHeads.get(socket));
    this.#awaitedHeads.delete(socket);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = request.url ?? "";
    const method = findRoute(this.#options.routes, target);
    if (method === undefined) {
      this.#refuse(response, Refusal.Unimplemented, describeMissingRoute(this.#options.routes, target));
      return;
    }
    const access = this.#accesses.get(request.socket);
    const call = access === undefined ? undefined : requestedCall(target, request.rawHeaders);
    const denial = call === undefined ? undefined : access?.denialOf(call);
    if (denial !== undefined) {
      this.#refuse(response, Refusal.PermissionDenied, denial);
      return;
    }
    const observed = this.#options.observer?.start?.("relay", pathOf(target), {
      find: (name) => [request.headers[name] ?? []].flat()[0],
    });
    const audited = call === undefined ? undefined : access?.watch(call);
    const watcher = joinWatchers(observed, audited);
    const beganMs = performance.now();
    const gone = new AbortController();
    response.once("close", () => {
      gone.abort();
      watcher?.end(response.headersSent ? codeOfStatus(response.statusCode) : undefined, beganMs);
    });
    try {
      await this.#relay(method, { request, response, gone: gone.signal, fields: watcher?.fields, audited });
    } catch (error) {
      if (response.headersSent) {
        response.destroy();
      } else {
        this.#refuse(response, Refusal.Unavailable, errorMessage(error));
      }
    }
  }

  #refuse(response: ServerResponse, refusal: Refusal, message: string): void {
    this.#options.counts.countRefusal(refusal);
    refuse(response, refusal, message);
  }

  #sessionsTo(upstream: string): SessionHolder {
    let sessions = this.#sessions.get(upstream);
    if (sessions === undefined) {
      const options = this.#options;
      sessions = new SessionHolder({
        name: `process ${upstream}`,
        heldMsMax: options.heldMsMax,
        messageLimits: options.messageLimits,
        connect: () => options.connectUpstream(upstream),
      });
      this.#sessions.set(upstream, sessions);
    }
    return sessions;
  }

  async #relay(method: RelayMethod, call: Omit<Http1Call, "kept" | "id">): Promise<void> {
    const { request, gone } = call;
    const unsaid = request.headers["transfer-encoding"] === undefined ? 0 : Number.POSITIVE_INFINITY;
    const lengthBytes = Number(request.headers["content-length"] ?? unsaid);
    const canKeep = method.repeatable && lengthBytes <= keptRequestBytesMax;
    const kept = canKeep ? Buffer.concat(await request.toArray()) : undefined;
    if (kept !== undefined) {
      call.audited?.requestBytes(kept, 0, kept.length);
    }
    const beganMs = performance.now();
    let lost: string | undefined;
    for (let resends = 0; ; resends++) {
      const session = await this.#sessionsTo(method.upstream).get(gone);
      const id = lost === undefined ? lost : writeCallId({ id: lost, repeatedAfterMs: performance.now() - beganMs });
      const outcome = await exchange(session, { ...call, kept, id });
      if (outcome === "over") {
        return;
      }
      const mayLiveOn = outcome !== "untouched" && method.changing === true && session.fault !== undefined;
      if (outcome !== "untouched") {
        lost ??= outcome.lost;
      }
      if (kept === undefined || resends === resendsMax || mayLiveOn) {
        throw failure(ErrorKind.Unavailable, `connection to process ${method.upstream} was lost`);
      }
      this.#options.counts.replayed += 1;
    }
  }
}

/**
 * Ends a connection whose bytes can't be read: one that speaks HTTP/1.1 is told so in HTTP/1.1; any other has sent no preface of
 * either protocol, which HTTP/2 calls a fault of the connection.
 *
 * @source RFC 9113 section 3.4
 */
function endUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const isHttp1 = error.code !== "HPE_INVALID_METHOD" && error.code !== "HPE_INVALID_VERSION";
  const status = error.code === "HPE_HEADER_OVERFLOW" ? "431 Request Header Fields Too Large" : "400 Bad Request";
  socket.end(isHttp1 ? `HTTP/1.1 ${status}\r\nConnection: close\r\n\r\n` : encodeGoaway(ErrorCode.ProtocolError));
}

function encodeGoaway(code: number): Buffer {
  const goaway = Buffer.alloc(frameHeadBytes + 8);
  goaway[2] = 8;
  goaway[3] = FrameType.Goaway;
  goaway.writeUInt32BE(code, frameHeadBytes + 4);
  return goaway;
}

function refuse(response: ServerResponse, refusal: Refusal, message: string): void {
  const body = encodeConnectError(refusal, message);
  response.writeHead(refusal.httpStatus, { "content-type": "application/json", "content-length": body.length });
  response.end(body);
}
