/** Lets other calls run before a long piece of work goes on. */
export type Pause = () => Promise<void>;

/** Does long work in slices and counts the time that the slices take, which is the time that other calls could have had. */
export class SliceTimer {
  #startedMs = performance.now();
  #busyMs = 0;

  readonly pause: Pause = async () => {
    this.#busyMs += performance.now() - this.#startedMs;
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
    this.#startedMs = performance.now();
  };

  /** Time in ms spent between pauses so far. */
  get busyMs(): number {
    return this.#busyMs;
  }
}

/** Runs a walk to its end, pausing wherever it yields. */
export async function runInSlices<T>(walk: Generator<undefined, T>, pause: Pause): Promise<T> {
  for (;;) {
    const step = walk.next();
    if (step.done === true) {
      return step.value;
    }
    await pause();
  }
}
