import { ErrorKind, failure } from "#base/errors.ts";

/** Closed until everything that was there before the start is known again. */
export class Gate {
  #isOpen = false;

  /** Lets calls in, from now on. */
  open(): void {
    this.#isOpen = true;
  }

  /**
   * Puts itself before the handlers of a service.
   *
   * @returns Handlers that fail with `unavailable` until the gate is open.
   * @source containerd v2.3.4 internal/cri/instrument/instrumented_service.go `checkInitialized`
   */
  guard<H extends object>(handlers: H): H {
    const guarded: Record<string, unknown> = {};
    for (const [name, handler] of Object.entries(handlers)) {
      const call = handler as (...args: readonly unknown[]) => unknown;
      guarded[name] = (...args: readonly unknown[]) => {
        if (!this.#isOpen) {
          throw failure(ErrorKind.Unavailable, "server is not initialized yet");
        }
        return call(...args);
      };
    }
    return guarded as H;
  }
}
