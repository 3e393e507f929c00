import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { type RemoteCommand, serveRemoteCommand, type WantedStreams } from "./remote-command.ts";
import { exitStatus, internalError, type RemoteStatus, success } from "./remote-status.ts";
import { RequestCache } from "./request-cache.ts";
import { serveSpdyForward, spdyForwardProtocols } from "./spdy/spdy-port-forward.ts";
import { acceptSpdyCommand, spdyRemoteProtocols } from "./spdy/spdy-remote-command.ts";
import type { StreamRuntime } from "./stream-runtime.ts";
import { type Agreement, agree, type Dialects, type Refusal, refuse, switchToSpdy } from "./upgrade.ts";
import type { WebSockets } from "./websocket/web-sockets.ts";
import { serveWebSocketForward, webSocketForwardProtocols } from "./websocket/websocket-port-forward.ts";
import { acceptWebSocketCommand, webSocketRemoteProtocols } from "./websocket/websocket-remote-command.ts";

/** How long a client may take to say what it wants, in ms. */
const requestMsMax = 30_000;

/** Where and how streams are served. */
export interface StreamingServerOptions {
  readonly address: string;
  /** 0 for any that is free. */
  readonly port: number;
  /** How long nothing may move on a connection, in ms; 0 for ever. */
  readonly idleMs: number;
  /** Certificate and key as PEM; absent for none. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
}

/** What a client was given an address for. */
type StreamRequest =
  | {
      readonly kind: "exec";
      readonly containerId: string;
      readonly command: readonly string[];
      readonly wanted: WantedStreams;
    }
  | { readonly kind: "attach"; readonly containerId: string; readonly wanted: WantedStreams }
  | { readonly kind: "portforward"; readonly podId: string; readonly ports: readonly number[] };

const remoteDialects: Dialects = { spdy: spdyRemoteProtocols, webSocket: webSocketRemoteProtocols };
const forwardDialects: Dialects = { spdy: spdyForwardProtocols, webSocket: webSocketForwardProtocols };
const notFound: Refusal = { status: 404, text: "404 page not found\n" };

/**
 * Serves commands, containers and ports to clients that were given an address for it by the kubelet's API, over SPDY/3.1 or a WebSocket.
 *
 * An address holds a token that is good once and for a minute; nothing else is asked of a client.
 *
 * @source k8s.io/cri-streaming pkg/streaming/server.go `Server`
 */
export class StreamingServer implements AsyncDisposable {
  readonly #server: http.Server;
  readonly #requests = new RequestCache<StreamRequest>();
  readonly #runtime: StreamRuntime;
  readonly #idleMs: number;
  #webSockets: Promise<WebSockets> | undefined;
  readonly #connections = new Set<Socket>();
  #baseUrl = "";

  private constructor(server: http.Server, runtime: StreamRuntime, idleMs: number) {
    this.#server = server;
    this.#runtime = runtime;
    this.#idleMs = idleMs;
    server.on("request", (request, response) => {
      const { status, text } = this.#refusalOf(request);
      response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(text);
    });
    server.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    server.on(server instanceof https.Server ? "secureConnection" : "connection", (socket: Socket) => {
      this.#connections.add(socket);
      socket.once("close", () => this.#connections.delete(socket));
    });
  }

  /** Starts to serve. @throws When the address can't be had. */
  static async start(options: StreamingServerOptions, runtime: StreamRuntime): Promise<StreamingServer> {
    const limits = { requestTimeout: requestMsMax, headersTimeout: requestMsMax, noDelay: true };
    const server =
      options.tls === undefined ? http.createServer(limits) : https.createServer({ ...limits, ...options.tls });
    const streaming = new StreamingServer(server, runtime, options.idleMs);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject);
    server.listen({ host: options.address, port: options.port }, resolve);
    await promise;
    server.off("error", reject);
    const { address, family, port } = server.address() as AddressInfo;
    const host = family === "IPv6" ? `[${address}]` : address;
    streaming.#baseUrl = `${options.tls === undefined ? "http" : "https"}://${host}:${port}`;
    return streaming;
  }

  /** Gives an address at which a client may run a command once. @throws {@link FlotillaError} `resource_exhausted` */
  urlForExec(containerId: string, command: readonly string[], wanted: WantedStreams): string {
    return this.#urlFor({ kind: "exec", containerId, command, wanted });
  }

  /** Gives an address at which a client may follow a container once. @throws {@link FlotillaError} `resource_exhausted` */
  urlForAttach(containerId: string, wanted: WantedStreams): string {
    return this.#urlFor({ kind: "attach", containerId, wanted });
  }

  /** Gives an address at which a client may connect to ports of a pod. @throws {@link FlotillaError} `resource_exhausted` */
  urlForPortForward(podId: string, ports: readonly number[]): string {
    return this.#urlFor({ kind: "portforward", podId, ports });
  }

  /** Ends all connections and serves no more. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    for (const connection of this.#connections) {
      connection.destroy();
    }
    await promise;
  }

  #urlFor(request: StreamRequest): string {
    return `${this.#baseUrl}/${request.kind}/${this.#requests.insert(request)}`;
  }

  #find(request: IncomingMessage): StreamRequest | undefined {
    const match = /^\/(exec|attach|portforward)\/([\w-]+)(?:\?|$)/.exec(request.url ?? "");
    const isKnownMethod = request.method === "GET" || request.method === "POST";
    const found = match === null || !isKnownMethod ? undefined : this.#requests.consume(match[2] ?? "");
    return found?.kind === match?.[1] ? found : undefined;
  }

  /** Why a client that asked for no upgrade is not served. */
  #refusalOf(request: IncomingMessage): Refusal {
    const found = this.#find(request);
    const agreed = found === undefined ? notFound : agree(request, dialectsOf(found));
    return "status" in agreed ? agreed : notFound;
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    const found = this.#find(request);
    const agreed = found === undefined ? notFound : agree(request, dialectsOf(found));
    if (found === undefined || "status" in agreed) {
      refuse(socket, "status" in agreed ? agreed : notFound);
    } else if (agreed.transport === "spdy") {
      switchToSpdy(socket, agreed.protocol);
      if (head.length > 0) {
        socket.unshift(head);
      }
      void this.#serveSpdy(found, socket, agreed);
    } else {
      const opened = (webSocket: WebSocket): void => void this.#serveWebSocket(found, webSocket, agreed);
      this.#webSockets ??= import("./websocket/web-sockets.ts").then((module) => new module.WebSockets());
      this.#webSockets
        .then((webSockets) => webSockets.open(request, socket, head, { protocol: agreed.protocol, opened }))
        .catch(() => socket.destroy());
    }
  }

  async #serveSpdy(request: StreamRequest, socket: Duplex, { protocol }: Agreement): Promise<void> {
    if (request.kind === "portforward") {
      await serveSpdyForward(socket, this.#forwardTarget(request.podId));
      return;
    }
    const options = { protocol, wanted: request.wanted, idleMs: this.#idleMs };
    await this.#serveCommand(request, acceptSpdyCommand(socket, options));
  }

  async #serveWebSocket(request: StreamRequest, socket: WebSocket, { protocol }: Agreement): Promise<void> {
    if (request.kind === "portforward") {
      const target = this.#forwardTarget(request.podId);
      await serveWebSocketForward(socket, { protocol, ports: request.ports, target });
      return;
    }
    const options = { protocol, wanted: request.wanted, idleMs: this.#idleMs };
    await this.#serveCommand(request, acceptWebSocketCommand(socket, options));
  }

  #forwardTarget(podId: string): { runtime: StreamRuntime; podId: string; idleMs: number } {
    return { runtime: this.#runtime, podId, idleMs: this.#idleMs };
  }

  async #serveCommand(
    request: Exclude<StreamRequest, { kind: "portforward" }>,
    accepting: Promise<RemoteCommand>,
  ): Promise<void> {
    let command: RemoteCommand;
    try {
      command = await accepting;
    } catch {
      // The client opened no streams, or has gone: there is nobody to tell.
      return;
    }
    await serveRemoteCommand(command, (streams, signal) => this.#act(request, streams, signal));
  }

  async #act(
    request: Exclude<StreamRequest, { kind: "portforward" }>,
    streams: RemoteCommand["streams"],
    signal: AbortSignal,
  ): Promise<RemoteStatus> {
    const isExec = request.kind === "exec";
    try {
      if (isExec) {
        const { containerId, command } = request;
        return exitStatus(command, await this.#runtime.exec(containerId, command, streams, signal));
      }
      await this.#runtime.attach(request.containerId, streams, signal);
      return success;
    } catch (error) {
      return internalError(isExec ? "error executing command in container" : "error attaching to container", error);
    }
  }
}

function dialectsOf(request: StreamRequest): Dialects {
  return request.kind === "portforward" ? forwardDialects : remoteDialects;
}
