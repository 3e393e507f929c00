import { setTimeout as delay } from "node:timers/promises";
import type { DescService } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { heldCallMsMax } from "#base/limits.ts";
import type { Handlers } from "#wire/handler.ts";

/**
 * Closed until everything that was there before the start is known again. Calls wait before it, as they wait for a process that is being
 * started, so that a client does not notice that it was.
 */
export class Gate {
  readonly #opened = Promise.withResolvers<void>();
  readonly #waitMsMax: number;
  #isOpen = false;

  /** @param waitMsMax - How long a call waits. */
  constructor(waitMsMax = heldCallMsMax) {
    this.#waitMsMax = waitMsMax;
  }

  /** Lets calls in, from now on. */
  open(): void {
    this.#isOpen = true;
    this.#opened.resolve();
  }

  /**
   * Puts itself before the handlers of a service.
   *
   * @returns Handlers that fail with `unavailable` when the gate does not open in time.
   * @source containerd v2.3.4 internal/cri/instrument/instrumented_service.go `checkInitialized`
   */
  guard<S extends DescService, H extends Partial<Handlers<S>>>(service: S, handlers: H): H {
    const guarded: Record<string, unknown> = {};
    for (const [name, handler] of Object.entries(handlers)) {
      const call = handler as (...args: readonly unknown[]) => unknown;
      const isStream = service.method[name]?.methodKind === "server_streaming";
      guarded[name] = (...args: readonly unknown[]) => {
        if (this.#isOpen) {
          return call(...args);
        }
        return isStream
          ? this.#streamWhenOpen(() => call(...args) as AsyncIterable<unknown>)
          : this.#wait().then(() => call(...args));
      };
    }
    return guarded as H;
  }

  async *#streamWhenOpen(start: () => AsyncIterable<unknown>): AsyncIterable<unknown> {
    await this.#wait();
    yield* start();
  }

  async #wait(): Promise<void> {
    const enough = new AbortController();
    try {
      await Promise.race([
        this.#opened.promise,
        delay(this.#waitMsMax, undefined, { signal: enough.signal, ref: false }).then(() => {
          throw failure(ErrorKind.Unavailable, "server is not initialized yet");
        }),
      ]);
    } finally {
      enough.abort();
    }
  }
}
