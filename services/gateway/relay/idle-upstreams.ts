import { WriterGroup } from "#wire/http2/writer-group.ts";
import { idleUpstreamMsMax, idleUpstreamsMax } from "./limits.ts";
import type { UpstreamConnection, UpstreamOwner } from "./upstream-connection.ts";

/** A connection that waits for the next client. */
interface IdleUpstream {
  readonly upstream: string;
  readonly connection: UpstreamConnection;
  readonly sinceMs: number;
}

/**
 * Connections to processes whose clients have gone, for the next clients: most clients are short-lived, and to open a connection costs both
 * ends of it more than a call does. One client has a connection at a time.
 */
export class IdleUpstreams implements UpstreamOwner {
  readonly #group = new WriterGroup();
  readonly #onFault: (error: unknown) => void;
  /** Oldest first. */
  #idle: IdleUpstream[] = [];
  #sweep: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** @param onFault - Told of a process that broke the rules of HTTP/2 while nobody called it. */
  constructor(onFault: (error: unknown) => void) {
    this.#onFault = onFault;
  }

  /** Takes a connection to a process, if there is one that can be used at once. The newest, which is the least likely to end soon. */
  take(upstream: string): UpstreamConnection | undefined {
    const index = this.#idle.findLastIndex((idle) => idle.upstream === upstream && idle.connection.isReusable);
    return index === -1 ? undefined : this.#idle.splice(index, 1)[0]?.connection;
  }

  /** Takes charge of a connection whose client has gone: keeps it, or ends it. */
  put(upstream: string, connection: UpstreamConnection): void {
    const alike = this.#idle.filter((idle) => idle.upstream === upstream);
    if (this.#isClosed || !connection.isReusable || alike.length >= idleUpstreamsMax) {
      connection.close();
      return;
    }
    connection.leaveTo(this.#group, this);
    this.#idle.push({ upstream, connection, sinceMs: performance.now() });
    this.#sweepLater();
  }

  /** Ends all connections, and those that are still to come. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#sweep);
    for (const { connection } of this.#idle) {
      connection.close();
    }
  }

  upstreamReady(): void {}

  upstreamLeaving(upstream: UpstreamConnection): void {
    this.upstreamLost(upstream);
  }

  upstreamLost(upstream: UpstreamConnection): void {
    this.#idle = this.#idle.filter(({ connection }) => connection !== upstream);
  }

  upstreamFault(_upstream: UpstreamConnection, error: unknown): void {
    this.#onFault(error);
  }

  #sweepLater(): void {
    this.#sweep ??= setTimeout(() => {
      this.#sweep = undefined;
      const keptSinceMs = performance.now() - idleUpstreamMsMax;
      for (const { connection, sinceMs } of this.#idle) {
        if (sinceMs <= keptSinceMs) {
          connection.close();
        }
      }
      if (this.#idle.length > 0) {
        this.#sweepLater();
      }
    }, idleUpstreamMsMax);
    this.#sweep.unref();
  }
}
