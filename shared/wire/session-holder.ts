import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { heldCallMsMax } from "#base/limits.ts";
import { ClientSession, type SessionOwner } from "./http2/client-session.ts";
import type { MessageLimits } from "./message-limits.ts";

/** How to reach a process of the fleet. */
export interface SessionHolderOptions {
  /** Names the other side in errors. */
  readonly name: string;
  /** How long to wait for the other side to come up, 10 s unless given. */
  readonly heldMsMax?: number;
  /** How large messages the other side takes and gives; as usual unless given. */
  readonly messageLimits?: MessageLimits;
  /** Opens a connection. */
  connect(): Duplex;
}

/** A process that is just being started is there soon; later, nobody gains by asking more often. */
const reconnectDelayMsMin = 2;
const reconnectDelayMsMax = 25;

/** The HTTP/2 session to a process, opened when first needed, and again when it has ended or is full. */
export class SessionHolder implements SessionOwner {
  readonly #options: SessionHolderOptions;
  /** The session that takes new streams. */
  #current: ClientSession | undefined;
  #opening: Promise<void> | undefined;
  /** All that have not ended. */
  readonly #sessions = new Set<ClientSession>();
  #isClosed = false;

  constructor(options: SessionHolderOptions) {
    this.#options = options;
  }

  /** A session that takes a stream now, if there is one. */
  find(): ClientSession | undefined {
    return this.#current?.canOpen === true ? this.#current : undefined;
  }

  /**
   * A session that takes a stream now; waits for the other side to come up.
   *
   * @throws {@link FlotillaError} `unavailable` when it does not in time or the holder is closed; why the signal aborted when it did.
   */
  async get(signal?: AbortSignal): Promise<ClientSession> {
    const { name, heldMsMax = heldCallMsMax } = this.#options;
    const deadline = performance.now() + heldMsMax;
    for (let delayMs = reconnectDelayMsMin; ; delayMs = Math.min(2 * delayMs, reconnectDelayMsMax)) {
      if (signal?.aborted === true) {
        throw abortReason(signal);
      }
      if (this.#isClosed) {
        throw failure(ErrorKind.Unavailable, `connection to ${name} is closed`);
      }
      const ready = this.find();
      if (ready !== undefined) {
        return ready;
      }
      let cause: unknown;
      try {
        this.#opening ??= this.#open();
        await this.#opening;
        continue;
      } catch (error) {
        cause = error;
      }
      if (performance.now() > deadline) {
        throw failure(ErrorKind.Unavailable, `no connection to ${name} within ${heldMsMax} ms`, { cause });
      }
      await delay(delayMs);
    }
  }

  /** Ends the sessions and what is under way on them, for good. */
  close(): void {
    this.#isClosed = true;
    for (const session of this.#sessions) {
      session.close();
    }
  }

  sessionLeaving(session: ClientSession): void {
    if (this.#current === session) {
      this.#current = undefined;
    }
  }

  sessionClosed(session: ClientSession): void {
    this.sessionLeaving(session);
    this.#sessions.delete(session);
  }

  async #open(): Promise<void> {
    try {
      const socket = this.#options.connect();
      if ("connecting" in socket && socket.connecting === true) {
        await connected(socket);
      }
      if (this.#isClosed) {
        socket.destroy();
        return;
      }
      const session = new ClientSession(socket, this, undefined, this.#options.messageLimits);
      this.#sessions.add(session);
      this.#current = session;
      session.start();
    } finally {
      this.#opening = undefined;
    }
  }
}

function connected(socket: Duplex): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve();
    });
  });
}

/** Why a signal aborted, as an error that has a class. */
export function abortReason(signal: AbortSignal | undefined): FlotillaError {
  const reason: unknown = signal?.reason;
  return reason instanceof FlotillaError
    ? reason
    : new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled, { cause: reason });
}
