import { ErrorKind, failure } from "#base/errors.ts";
import type { EncodedResponse } from "#wire/handler.ts";
import type { TypedMessage } from "./any.ts";

/** What goes to a client: a message, or the encoding of a wrapped one, which nobody changes from now on. */
export type OutgoingMessage = TypedMessage | EncodedResponse;

/** Messages that wait for the client at most; whoever sends more waits. */
const waitingMessagesMax = 16;

/** How long a stream that is being closed waits for its client to take what was sent. */
const flushMsMax = 5_000;

/**
 * A stream that a client has opened, for the call that uses it.
 *
 * One user at a time sends and one receives. It ends when either side closes it, when the client goes away, or when its lease goes.
 */
export interface Stream {
  /**
   * Sends a message. Resolves when it is on its way or one of the few that wait.
   *
   * @throws {@link FlotillaError} `unavailable` when the stream has ended.
   */
  send(message: OutgoingMessage): Promise<void>;
  /**
   * Takes the client's next message. Its bytes are good until the one after it is asked for.
   *
   * @returns undefined when the client sends no more, or the stream was closed here.
   * @throws What broke the call, when the client went away before it said that it sends no more.
   */
  receive(): Promise<TypedMessage | undefined>;
  /** Ends the stream. Resolves when what was sent before is on its way or cannot be sent any more, after a few seconds at the latest. */
  close(): Promise<void>;
}

/** The stream at the end of one call of the Streaming service. */
export class OpenStream implements Stream {
  readonly #requests: AsyncIterator<TypedMessage>;
  readonly #waiting: OutgoingMessage[] = [];
  readonly #flushed = Promise.withResolvers<void>();
  #isClosed = false;
  #hasEnded = false;
  #onMessage: (() => void) | undefined;
  #onRoom: PromiseWithResolvers<void> | undefined;
  #onReceived: ((message: undefined) => void) | undefined;

  /** @param requests - What the client sends after its first message. */
  constructor(requests: AsyncIterator<TypedMessage>) {
    this.#requests = requests;
  }

  async send(message: OutgoingMessage): Promise<void> {
    while (!this.#isClosed && !this.#hasEnded && this.#waiting.length >= waitingMessagesMax) {
      this.#onRoom ??= Promise.withResolvers();
      await this.#onRoom.promise;
    }
    if (this.#isClosed || this.#hasEnded) {
      throw failure(ErrorKind.Unavailable, "the stream is closed");
    }
    this.#waiting.push(message);
    this.#onMessage?.();
  }

  async receive(): Promise<TypedMessage | undefined> {
    if (this.#isClosed || this.#hasEnded) {
      return undefined;
    }
    return await new Promise((resolve, reject) => {
      this.#onReceived = resolve;
      this.#requests.next().then(({ done, value }) => resolve(done === true ? undefined : value), reject);
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#wakeAll();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, flushMsMax);
    });
    await Promise.race([this.#flushed.promise, late]);
    clearTimeout(timer);
  }

  /** What goes to the client, until the stream is closed or the signal aborts. To be iterated once, by the call that serves it. */
  async *messages(signal: AbortSignal): AsyncGenerator<OutgoingMessage> {
    const onAbort = (): void => {
      this.#hasEnded = true;
      this.#wakeAll();
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      while (!signal.aborted) {
        const message = this.#waiting.shift();
        if (message !== undefined) {
          this.#onRoom?.resolve();
          this.#onRoom = undefined;
          yield message;
        } else if (this.#isClosed) {
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#onMessage = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#hasEnded = true;
      this.#waiting.length = 0;
      this.#wakeAll();
      this.#flushed.resolve();
    }
  }

  #wakeAll(): void {
    this.#onMessage?.();
    this.#onRoom?.resolve();
    this.#onRoom = undefined;
    this.#onReceived?.(undefined);
  }
}
