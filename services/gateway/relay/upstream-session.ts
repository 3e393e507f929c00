import http2 from "node:http2";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, failure } from "#base/errors.ts";
import { connectionWindowBytes, reconnectMsMax, reconnectMsMin } from "./limits.ts";

export interface UpstreamSessionsOptions {
  readonly heldMsMax: number;
  connectUpstream(upstream: string): Socket;
}

/** The sessions that carry the calls of HTTP/1.1 clients, one for each process, shared by all of them. */
export class UpstreamSessions {
  readonly #options: UpstreamSessionsOptions;
  readonly #sessions = new Map<string, Promise<http2.ClientHttp2Session>>();

  constructor(options: UpstreamSessionsOptions) {
    this.#options = options;
  }

  /**
   * The open session to a process; waits for the process to come up.
   *
   * @throws {@link FlotillaError} `unavailable` when it does not within the time that a call is held.
   * @throws the signal's reason when it aborts.
   */
  async get(upstream: string, signal: AbortSignal): Promise<http2.ClientHttp2Session> {
    const { heldMsMax } = this.#options;
    const deadlineMs = performance.now() + heldMsMax;
    for (let waitMs = reconnectMsMin; ; waitMs = Math.min(reconnectMsMax, waitMs * 2)) {
      signal.throwIfAborted();
      let cause: unknown;
      try {
        const session = await this.#open(upstream);
        if (!session.closed && !session.destroyed) {
          return session;
        }
      } catch (error) {
        cause = error;
      }
      if (performance.now() + waitMs > deadlineMs) {
        const waited = `process ${upstream} did not come back within ${heldMsMax} ms`;
        throw failure(ErrorKind.Unavailable, waited, { cause });
      }
      await delay(waitMs, undefined, { signal });
    }
  }

  /** Ends all sessions at once. */
  close(): void {
    for (const session of this.#sessions.values()) {
      session.then(
        (open) => open.destroy(),
        () => undefined,
      );
    }
  }

  #open(upstream: string): Promise<http2.ClientHttp2Session> {
    const known = this.#sessions.get(upstream);
    if (known !== undefined) {
      return known;
    }
    const opened = new Promise<http2.ClientHttp2Session>((resolve, reject) => {
      const session = http2.connect("http://localhost", {
        createConnection: () => this.#options.connectUpstream(upstream),
      });
      const forget = (): void => {
        if (this.#sessions.get(upstream) === opened) {
          this.#sessions.delete(upstream);
        }
      };
      session.once("connect", () => {
        session.setLocalWindowSize(connectionWindowBytes);
        resolve(session);
      });
      session.on("error", reject);
      session.once("goaway", forget);
      session.once("close", () => {
        forget();
        reject(failure(ErrorKind.Unavailable, `connection to process ${upstream} was closed`));
      });
    });
    this.#sessions.set(upstream, opened);
    return opened;
  }
}
