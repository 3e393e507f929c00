import type { Socket } from "node:net";
import { type Duplex, duplexPair } from "node:stream";
import { heldCallMsMax } from "#base/limits.ts";
import { sniffPreface } from "#wire/http2/preface.ts";
import { defaultMessageLimits, type MessageLimits } from "#wire/message-limits.ts";
import type { CallObserver, CallUnderWay } from "#wire/observe.ts";
import type { ConnectionAccess, RelayAccess } from "./access.ts";
import { ClientConnection, type LocalAnswers } from "./client-connection.ts";
import { Http1Front } from "./http1.ts";
import { IdleUpstreams } from "./idle-upstreams.ts";
import { RelayCounts } from "./relay-counts.ts";
import type { RelayRoutes } from "./route.ts";

export type { RelayMethod, RelayRoutes } from "./route.ts";

export interface RelayOptions {
  readonly routes: RelayRoutes;
  /** Told of every call that is passed on or refused. The relay counts bytes as they come, prefixes included. */
  readonly observer?: CallObserver;
  /** Who may call what; unless given, everybody everything. */
  readonly access?: RelayAccess;
  /** Counts what becomes of calls; several relays may share it. */
  readonly counts?: RelayCounts;
  /** What the relay's own process answers, if anything. */
  readonly local?: LocalAnswers;
  /**
   * How long a call waits for a process that is not there.
   *
   * @defaultValue `heldCallMsMax`
   */
  readonly heldMsMax?: number;
  /**
   * How large messages of clients may be, and those of answers. The relay looks into none; it tells services, which see to it.
   *
   * @defaultValue 16 MiB each
   */
  readonly messageLimits?: MessageLimits;
  /** Opens a fresh connection to a process. The relay owns it. */
  connectUpstream(upstream: string): Duplex;
  /** Told of peers that break the rules and of processes that can't be reached. */
  onWarning(fields: object, message: string): void;
}

/**
 * Carries calls between clients and the processes that answer them, HTTP/2 frame by frame, without looking into
 * messages. Clients that speak HTTP/1.1 are served on the same connections.
 *
 * Nothing here listens: the owner hands over accepted connections, of whatever kind of socket.
 */
export class Relay {
  readonly #options: RelayOptions;
  readonly #heldMsMax: number;
  readonly #messageLimits: MessageLimits;
  readonly #counts: RelayCounts;
  readonly #http1: Http1Front;
  readonly #sniffed = new Set<Socket>();
  readonly #connections = new Set<ClientConnection>();
  readonly #idle = new IdleUpstreams((error) =>
    this.#options.onWarning({ err: error }, "a service that nobody called broke the rules of HTTP/2"),
  );
  #onIdle: (() => void) | undefined;
  #isClosing = false;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#heldMsMax = options.heldMsMax ?? heldCallMsMax;
    this.#messageLimits = options.messageLimits ?? defaultMessageLimits;
    this.#counts = options.counts ?? new RelayCounts();
    this.#http1 = new Http1Front({
      counts: this.#counts,
      observer: options.observer,
      routes: options.routes,
      heldMsMax: this.#heldMsMax,
      messageLimits: this.#messageLimits,
      connectUpstream: (upstream) => this.#connect(upstream),
    });
  }

  /** Takes over a connection that was just accepted. */
  handleConnection(socket: Socket): void {
    if (this.#isClosing) {
      socket.destroy();
      return;
    }
    const access = this.#accept(socket);
    if (access === "gone") {
      socket.destroy();
      return;
    }
    this.#sniffed.add(socket);
    const forget = (): void => {
      this.#sniffed.delete(socket);
    };
    socket.once("close", forget);
    sniffPreface(socket, {
      onHttp2: (rest) => {
        forget();
        this.#serveHttp2(socket, rest, access);
      },
      onOther: (head) => {
        forget();
        this.#http1.accept(socket, head, access);
      },
    });
  }

  /** Counts the calls of HTTP/2 clients that are under way, by the process that answers them. */
  callsUnderWay(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const connection of this.#connections) {
      for (const { method } of connection.relayedStreams()) {
        if (method !== undefined) {
          counts.set(method.upstream, (counts.get(method.upstream) ?? 0) + 1);
        }
      }
    }
    return counts;
  }

  /**
   * Takes nothing new, tells clients so with GOAWAY, waits for the streams that are open, and then ends all connections.
   *
   * @param drainMs - How long streams may take.
   */
  async close(drainMs: number): Promise<void> {
    this.#isClosing = true;
    for (const socket of this.#sniffed) {
      socket.destroy();
    }
    this.#idle.close();
    await Promise.all([this.#http1.close(drainMs), this.#drainConnections(drainMs)]);
  }

  /** The calls of clients of HTTP/2 that are under way. */
  calls(): CallUnderWay[] {
    return [...this.#connections].flatMap((connection) => connection.calls());
  }

  /** Opens a connection to a process, be it this one. */
  #connect(upstream: string): Duplex {
    const { local } = this.#options;
    if (local?.upstream !== upstream) {
      return this.#options.connectUpstream(upstream);
    }
    const [here, there] = duplexPair();
    local.host.accept(there);
    return here;
  }

  /** Who the client is has to be asked while it is there. */
  #accept(socket: Socket): ConnectionAccess | undefined | "gone" {
    try {
      return this.#options.access?.accept(socket);
    } catch (error) {
      this.#options.onWarning({ err: error }, "a client went before it could be told who it was");
      return "gone";
    }
  }

  #serveHttp2(socket: Socket, rest: Buffer, access: ConnectionAccess | undefined): void {
    const connection = new ClientConnection(socket, {
      routes: this.#options.routes,
      observer: this.#options.observer,
      access,
      counts: this.#counts,
      local: this.#options.local,
      idle: this.#idle,
      heldMsMax: this.#heldMsMax,
      messageLimits: this.#messageLimits,
      connectUpstream: (upstream) => this.#options.connectUpstream(upstream),
      onWarning: (fields, message) => this.#options.onWarning(fields, message),
      onGone: (gone) => {
        this.#connections.delete(gone);
        this.#counts.connections -= 1;
        if (this.#connections.size === 0) {
          this.#onIdle?.();
        }
      },
    });
    this.#connections.add(connection);
    this.#counts.connections += 1;
    connection.start(rest);
  }

  async #drainConnections(drainMs: number): Promise<void> {
    if (this.#connections.size === 0) {
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        for (const connection of this.#connections) {
          connection.close();
        }
      }, drainMs);
      this.#onIdle = () => {
        clearTimeout(timer);
        resolve();
      };
      for (const connection of this.#connections) {
        connection.drain();
      }
    });
  }
}
