import http2 from "node:http2";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { heldCallMsMax } from "#base/limits.ts";
import { connectionWindowBytes, serviceSettings, sessionMemoryMegabytesMax } from "./transport-settings.ts";

/** How to reach a process of the fleet. */
export interface SessionHolderOptions {
  /** Names the other side in errors. */
  readonly name: string;
  /** How long to wait for the other side to come up, 10 s unless given. */
  readonly heldMsMax?: number;
  /** Opens a connection. */
  connect(): Socket;
}

const reconnectDelayMs = 25;

/** The one HTTP/2 session to a process, opened when first needed and again when it has ended. */
export class SessionHolder {
  readonly #options: SessionHolderOptions;
  #session: Promise<http2.ClientHttp2Session> | undefined;
  #isClosed = false;

  constructor(options: SessionHolderOptions) {
    this.#options = options;
  }

  /**
   * A session that takes calls; waits for the other side to come up.
   *
   * @throws {@link FlotillaError} `unavailable` when it does not in time or the holder is closed; why the signal aborted when it did.
   */
  async get(signal?: AbortSignal): Promise<http2.ClientHttp2Session> {
    const { name, heldMsMax = heldCallMsMax } = this.#options;
    const deadline = performance.now() + heldMsMax;
    for (;;) {
      if (signal?.aborted === true) {
        throw abortReason(signal);
      }
      if (this.#isClosed) {
        throw failure(ErrorKind.Unavailable, `connection to ${name} is closed`);
      }
      this.#session ??= this.#open();
      const opening = this.#session;
      let cause: unknown;
      try {
        const session = await opening;
        // One that is ending has not told so yet.
        if (!session.closed && !session.destroyed) {
          return session;
        }
      } catch (error) {
        cause = error;
      }
      this.#forget(opening);
      if (performance.now() > deadline) {
        throw failure(ErrorKind.Unavailable, `no connection to ${name} within ${heldMsMax} ms`, { cause });
      }
      await delay(reconnectDelayMs);
    }
  }

  /** Ends the session and what is under way on it, for good. */
  close(): void {
    this.#isClosed = true;
    this.#session?.then(
      (session) => session.destroy(),
      () => undefined,
    );
  }

  /** An ended session must not take the place of the one that followed it. */
  #forget(ended: Promise<http2.ClientHttp2Session>): void {
    if (this.#session === ended) {
      this.#session = undefined;
    }
  }

  #open(): Promise<http2.ClientHttp2Session> {
    const { promise, resolve, reject } = Promise.withResolvers<http2.ClientHttp2Session>();
    const session = http2.connect("http://localhost", {
      createConnection: () => this.#options.connect(),
      settings: serviceSettings,
      maxSessionMemory: sessionMemoryMegabytesMax,
    });
    session.once("connect", () => {
      session.setLocalWindowSize(connectionWindowBytes);
      resolve(session);
    });
    session.once("goaway", () => this.#forget(promise));
    session.once("close", () => {
      this.#forget(promise);
      reject(failure(ErrorKind.Unavailable, `connection to ${this.#options.name} was closed`));
    });
    session.on("error", reject);
    return promise;
  }
}

/** Why a signal aborted, as an error that has a class. */
export function abortReason(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof FlotillaError
    ? reason
    : new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled, { cause: reason });
}
