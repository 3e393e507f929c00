import { ErrorKind, failure } from "#base/errors.ts";

/** How long an event waits for the first subscriber, in ms. @source containerd v2.3.4 internal/cri/server/service.go `NewCRIService` */
const keptMsMax = 5 * 60_000;
/** Events that wait for a subscriber, or for the first one, at most. */
const waitingEventsMax = 1000;

interface KeptEvent<T> {
  readonly event: T;
  readonly atMs: number;
}

/**
 * Events for all who subscribe, in order. While nobody does they are kept for some minutes, for the next who will.
 *
 * A subscriber that takes none while a thousand come is let go of: it has to look at everything anew anyway, and holds up nobody else.
 *
 * @source containerd v2.3.4 internal/eventq/eventq.go `New`, `Subscribe`
 */
export class EventFeed<T> {
  readonly #subscribers = new Set<Subscriber<T>>();
  readonly #nowMs: () => number;
  #kept: KeptEvent<T>[] = [];
  #dropped = 0;

  /** @param nowMs - A clock that does not go back. */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** How many events nobody has taken in time. */
  get dropped(): number {
    return this.#dropped;
  }

  publish(event: T): void {
    for (const subscriber of this.#subscribers) {
      subscriber.put(event);
    }
    if (this.#subscribers.size === 0) {
      this.#kept.push({ event, atMs: this.#nowMs() });
      this.#forgetOld();
    }
  }

  /**
   * Events from now on, and those that nobody has had yet.
   *
   * @param signal - Ends it.
   * @throws {@link FlotillaError} `resource_exhausted` when too many events waited.
   */
  async *subscribe(signal: AbortSignal): AsyncGenerator<T> {
    const subscriber = new Subscriber<T>();
    this.#forgetOld();
    for (const { event } of this.#kept) {
      subscriber.put(event);
    }
    this.#kept = [];
    this.#subscribers.add(subscriber);
    const stop = (): void => subscriber.wake();
    signal.addEventListener("abort", stop, { once: true });
    try {
      while (!signal.aborted) {
        const event = await subscriber.take();
        if (event !== undefined) {
          yield event;
        }
      }
    } finally {
      this.#subscribers.delete(subscriber);
      signal.removeEventListener("abort", stop);
    }
  }

  #forgetOld(): void {
    const oldestMs = this.#nowMs() - keptMsMax;
    const firstFresh = this.#kept.findIndex(({ atMs }) => atMs >= oldestMs);
    const before = this.#kept.length;
    this.#kept = firstFresh === -1 ? [] : this.#kept.slice(Math.max(firstFresh, before - waitingEventsMax));
    this.#dropped += before - this.#kept.length;
  }
}

class Subscriber<T> {
  readonly #waiting: T[] = [];
  #hasOverflowed = false;
  #onEvent: (() => void) | undefined;

  put(event: T): void {
    if (this.#waiting.length >= waitingEventsMax) {
      this.#hasOverflowed = true;
    } else {
      this.#waiting.push(event);
    }
    this.wake();
  }

  wake(): void {
    this.#onEvent?.();
  }

  /** The next event, or undefined when it was woken without one. */
  async take(): Promise<T | undefined> {
    if (this.#waiting.length === 0) {
      await new Promise<void>((resolve) => {
        this.#onEvent = resolve;
      });
    }
    if (this.#hasOverflowed) {
      throw failure(ErrorKind.ResourceExhausted, `the subscriber left ${waitingEventsMax} events waiting`);
    }
    return this.#waiting.shift();
  }
}
