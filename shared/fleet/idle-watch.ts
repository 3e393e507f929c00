import type { CallObserver } from "#wire/observe.ts";

export interface IdleWatchOptions {
  /** How long nobody may want the process before it is idle, in milliseconds. */
  readonly idleMs: number;
  /** Tells whether it has work that no call waits for. It is asked again after the same time. */
  isBusy(): boolean;
  /** Called once, when nobody has called for so long. */
  onIdle(): void;
}

/** What the gateway asks of every process that runs, such as its figures; none is kept running by it. */
const fleetCalls = "/flotilla.fleet.v1.Member/";

/**
 * Notices that nobody needs a process: no call is under way, none has come for some time, and it says itself that it has nothing to do.
 *
 * Connections do not count: many clients keep theirs for as long as they live, and make their next call on a new one when they are told to go.
 */
export class IdleWatch implements Disposable {
  readonly observer: CallObserver;
  readonly #options: IdleWatchOptions;
  #calls = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: IdleWatchOptions) {
    this.#options = options;
    const watcher = { requestMessage: () => undefined, responseMessage: () => undefined, end: () => this.#callEnded() };
    this.observer = {
      start: (_side, rpc) => {
        if (rpc.startsWith(fleetCalls)) {
          return undefined;
        }
        this.#calls += 1;
        clearTimeout(this.#timer);
        return watcher;
      },
    };
    this.#wait();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #callEnded(): void {
    this.#calls -= 1;
    if (this.#calls === 0) {
      this.#wait();
    }
  }

  #wait(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#options.isBusy()) {
        this.#wait();
      } else {
        this.#options.onIdle();
      }
    }, this.#options.idleMs);
  }
}
