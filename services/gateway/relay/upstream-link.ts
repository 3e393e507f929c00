import type { Duplex } from "node:stream";
import { ErrorKind, failure } from "#base/errors.ts";
import type { WriterGroup } from "#wire/http2/writer-group.ts";
import { Refusal } from "./answer.ts";
import type { IdleUpstreams } from "./idle-upstreams.ts";
import { reconnectMsMax, reconnectMsMin } from "./limits.ts";
import type { RelayCounts } from "./relay-counts.ts";
import type { RelayedStream } from "./stream.ts";
import type { StreamOwner } from "./stream-owner.ts";
import { UpstreamConnection, type UpstreamOwner } from "./upstream-connection.ts";

/** The client connection that a link works for. */
export interface LinkOwner extends StreamOwner {
  /** Answers a stream that no connection has, or that lost its connection. */
  refuse(stream: RelayedStream, refusal: Refusal, message: string): void;
  /** A stream whose response is complete lost its connection. */
  finishWithoutUpstream(stream: RelayedStream): void;
  flush(): void;
}

export interface LinkOptions {
  /** Name of the process. */
  readonly upstream: string;
  readonly heldMsMax: number;
  readonly counts: RelayCounts;
  /** Connections that the client may have, and that get those that it had. */
  readonly idle: IdleUpstreams;
  connect(): Duplex;
  onWarning(fields: object, message: string): void;
}

/**
 * The way of one client connection to one process: opens a connection when there is something to send, holds streams
 * while the process is not there, and sends them again, or refuses them, when it went away.
 */
export class UpstreamLink implements UpstreamOwner {
  readonly #client: LinkOwner;
  readonly #group: WriterGroup;
  readonly #options: LinkOptions;
  /** The connection that takes new streams. */
  #current: UpstreamConnection | undefined;
  readonly #connections = new Set<UpstreamConnection>();
  /** Streams without a connection, by ascending id, which is the order in which a connection must get them. */
  #held: RelayedStream[] = [];
  #reconnectMs = reconnectMsMin;
  #reconnectTimer: NodeJS.Timeout | undefined;
  #deadlineTimer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(client: LinkOwner, group: WriterGroup, options: LinkOptions) {
    this.#client = client;
    this.#group = group;
    this.#options = options;
  }

  /** The connection that can take a new stream at once, if there is one. */
  findReady(streamId: number): UpstreamConnection | undefined {
    if (this.#held.length > 0) {
      return undefined;
    }
    this.#current ??= this.#adopt();
    return this.#current?.canTake(streamId) === true ? this.#current : undefined;
  }

  /** Keeps a stream until a connection takes it, or for so long as a call is held. */
  hold(stream: RelayedStream): void {
    stream.heldSinceMs ??= performance.now();
    const behind = this.#held.findIndex((held) => held.id > stream.id);
    this.#held.splice(behind === -1 ? this.#held.length : behind, 0, stream);
    this.#watchDeadline();
    this.#sendHeld();
  }

  /** Forgets a held stream that is over. */
  forget(stream: RelayedStream): void {
    const index = this.#held.indexOf(stream);
    if (index !== -1) {
      this.#held.splice(index, 1);
    }
  }

  announceWindow(initialWindowBytes: number): void {
    for (const connection of this.#connections) {
      connection.announceWindow(initialWindowBytes);
    }
  }

  /** Lets go of all connections. Those on which services do something for this client end, and that with them. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#reconnectTimer);
    clearTimeout(this.#deadlineTimer);
    for (const connection of this.#connections) {
      this.#connections.delete(connection);
      this.#options.idle.put(this.#options.upstream, connection);
    }
  }

  upstreamReady(upstream: UpstreamConnection): void {
    if (upstream.hasAnswered) {
      this.#reconnectMs = reconnectMsMin;
    }
    if (upstream === this.#current) {
      this.#sendHeld();
    }
  }

  upstreamLeaving(upstream: UpstreamConnection, lastStreamId: number): void {
    if (upstream === this.#current) {
      this.#current = undefined;
    }
    for (const stream of this.#streamsOf(upstream)) {
      if (stream.id > lastStreamId) {
        this.#takeBack(stream, true);
        upstream.streamGone();
      }
    }
    this.#sendHeld();
  }

  upstreamFault(upstream: UpstreamConnection, error: unknown): void {
    this.#options.onWarning(
      { upstream: this.#options.upstream, err: error, hasAnswered: upstream.hasAnswered },
      "a service broke the rules of HTTP/2",
    );
  }

  upstreamLost(upstream: UpstreamConnection): void {
    this.#connections.delete(upstream);
    if (upstream === this.#current) {
      this.#current = undefined;
    }
    if (this.#isClosed) {
      return;
    }
    if (!upstream.hasAnswered) {
      this.#reconnectLater();
    }
    for (const stream of this.#streamsOf(upstream)) {
      this.#takeBack(stream, !upstream.hasAnswered);
    }
    if (this.#held.length > 0 && this.#current === undefined) {
      this.#countHeld();
      this.#reconnectLater();
    }
  }

  /** Calls that wait because the process is not there, not only until a connection to it is open. */
  #countHeld(): void {
    for (const stream of this.#held) {
      if (!stream.isCountedAsHeld) {
        stream.isCountedAsHeld = true;
        this.#options.counts.held += 1;
      }
    }
  }

  /** Sends what is held, as far as the current connection takes it, and opens one where there is none. */
  #sendHeld(): void {
    for (;;) {
      const [first] = this.#held;
      if (first === undefined || this.#isClosed) {
        return;
      }
      const current = this.#current;
      if (current === undefined) {
        this.#connect();
        return;
      }
      if (current.canNeverTake(first.id)) {
        this.#current = undefined;
        current.leave();
      } else if (current.canTake(first.id)) {
        this.#held.shift();
        current.take(first, undefined);
      } else {
        return;
      }
    }
  }

  /** Takes over a connection of a client that has gone, if there is one. */
  #adopt(): UpstreamConnection | undefined {
    const connection = this.#options.idle.take(this.#options.upstream);
    if (connection !== undefined) {
      this.#connections.add(connection);
      connection.workFor(this.#group, this.#client, this);
    }
    return connection;
  }

  #connect(): void {
    if (this.#reconnectTimer !== undefined) {
      return;
    }
    let socket: Duplex;
    try {
      socket = this.#options.connect();
    } catch (error) {
      this.#options.onWarning({ upstream: this.#options.upstream, err: error }, "can't open a connection to a service");
      this.#reconnectLater();
      return;
    }
    const connection = new UpstreamConnection(socket, this.#group, this.#client, this);
    this.#connections.add(connection);
    this.#current = connection;
    connection.start();
  }

  #reconnectLater(): void {
    if (this.#reconnectTimer !== undefined || this.#isClosed) {
      return;
    }
    this.#reconnectTimer = setTimeout(() => {
      this.#reconnectTimer = undefined;
      this.#sendHeld();
      this.#client.flush();
    }, this.#reconnectMs);
    this.#reconnectMs = Math.min(reconnectMsMax, this.#reconnectMs * 2);
  }

  #watchDeadline(): void {
    this.#deadlineTimer ??= setTimeout(() => {
      this.#deadlineTimer = undefined;
      this.#refuseOverdue();
      if (this.#held.length > 0) {
        this.#watchDeadline();
      }
      this.#client.flush();
    }, this.#msToDeadline());
  }

  #msToDeadline(): number {
    const oldestMs = Math.min(...this.#held.map(heldSince));
    return Math.max(1, oldestMs + this.#options.heldMsMax - performance.now());
  }

  #refuseOverdue(): void {
    const overdueMs = performance.now() - this.#options.heldMsMax;
    const overdue = this.#held.filter((stream) => heldSince(stream) <= overdueMs);
    this.#held = this.#held.filter((stream) => heldSince(stream) > overdueMs);
    for (const stream of overdue) {
      this.#refuse(stream, `process ${this.#options.upstream} did not come back within ${this.#options.heldMsMax} ms`);
    }
  }

  #takeBack(stream: RelayedStream, isUntouched: boolean): void {
    stream.upstream?.dropGated(stream);
    if (stream.down.isEnded) {
      this.#client.finishWithoutUpstream(stream);
    } else if (stream.takeBack(isUntouched, performance.now())) {
      if (!isUntouched) {
        this.#options.counts.replayed += 1;
      }
      this.hold(stream);
    } else {
      this.#refuse(stream, `connection to process ${this.#options.upstream} was lost`);
    }
  }

  #refuse(stream: RelayedStream, reason: string): void {
    this.#client.refuse(stream, Refusal.Unavailable, failure(ErrorKind.Unavailable, reason).message);
  }

  #streamsOf(upstream: UpstreamConnection): RelayedStream[] {
    return this.#client.relayedStreams().filter((stream) => stream.upstream === upstream);
  }
}

function heldSince(stream: RelayedStream): number {
  return stream.heldSinceMs ?? 0;
}
