import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { ErrorKind, errorMessage, FlotillaError, failure } from "#base/errors.ts";
import { programUrl } from "#fleet/program.ts";
import { releaseFreeMemory } from "#linux/memory.ts";
import type {
  JobEnd,
  JobMessage,
  JobRequest,
  JobResponse,
  ThreadJob,
  WorkInput,
  WorkKind,
  WorkResult,
} from "./protocol.ts";

/** Jobs that may wait for a thread. */
const waitingMax = 1000;
/** A thread without work ends after this; it holds some 15 MB. */
const idleMs = 10_000;
/**
 * How long a thread may take to give its job up when the pool closes. One that is ended in the middle of a system call through koffi takes
 * the whole process with it.
 */
const givingUpMsMax = 5_000;

/**
 * Threads for work that makes system calls without a pause. They are started when needed and end when there is nothing to do.
 *
 * A thread that dies takes its job with it, which fails with the reason; others are not touched.
 */
export class WorkerPool implements AsyncDisposable {
  readonly #threadsMax: number;
  readonly #program: URL;
  readonly #all = new Set<Worker>();
  readonly #idle = new Map<Worker, NodeJS.Timeout>();
  /** How to have a thread give its job up. */
  readonly #running = new Map<Worker, () => void>();
  readonly #deaths = new WeakMap<Worker, unknown>();
  readonly #waiting: ((thread: Worker | undefined) => void)[] = [];
  #closed = false;
  /** Called when a job has ended, once the pool closes. */
  #allEnded: (() => void) | undefined;

  /**
   * @param threadsMax - Jobs that are worked on at a time.
   * @param program - What a thread runs.
   */
  constructor(threadsMax: number, program = programUrl("services/snapshots/threads/file-thread-main.ts")) {
    this.#threadsMax = threadsMax;
    this.#program = program;
  }

  /** Starts threads for jobs that are about to come, so that these do not wait for the start. @param jobs - How many are expected. */
  prepare(jobs: number): void {
    while (!this.#closed && this.#all.size < Math.min(jobs, this.#threadsMax)) {
      this.#giveBack(this.#start());
    }
  }

  /**
   * Does one job on a thread of its own. A signal ends it early, with its work half done.
   *
   * @param onProgress - Told now and then how many bytes the job has used up.
   * @throws {@link FlotillaError} what the job fails with; `unavailable` when the thread dies or the pool closes;
   *   `resource_exhausted` when too many jobs wait; the signal's reason.
   */
  async run<K extends WorkKind>(
    kind: K,
    input: WorkInput<K>,
    signal: AbortSignal,
    onProgress?: (usedBytes: number) => void,
  ): Promise<WorkResult<K>> {
    const pieces = this.stream(kind, input, signal, onProgress);
    const next = await pieces.next();
    if (next.done !== true) {
      await pieces.return(undefined);
      throw new TypeError(`a job of kind ${kind} has no pieces`);
    }
    return next.value;
  }

  /** As {@link WorkerPool.run}, for a job whose bytes come in pieces. Whoever stops reading early ends the job. */
  async *stream<K extends WorkKind>(
    kind: K,
    input: WorkInput<K>,
    signal: AbortSignal,
    onProgress: (usedBytes: number) => void = () => undefined,
  ): AsyncGenerator<Uint8Array, WorkResult<K>> {
    const thread = await this.#take(signal);
    if (signal.aborted) {
      this.#giveBack(thread);
      signal.throwIfAborted();
    }
    const { port1: port, port2: theirs } = new MessageChannel();
    const inbox = new Inbox(port, onProgress);
    const cancel = (): void => say(port, "cancel");
    try {
      const message: JobMessage = { job: { kind, input } as ThreadJob, port: theirs };
      thread.postMessage(message, [theirs]);
      signal.addEventListener("abort", cancel, { once: true });
      this.#running.set(thread, cancel);
      for (;;) {
        const response = await inbox.next();
        if (response === undefined) {
          // Its end is told only later, and meanwhile it must not get another job.
          await this.#end(thread);
          throw this.#lost(thread);
        }
        if (response.kind === "failed") {
          throw this.#closed ? stopping() : jobFailure(response);
        }
        if (response.kind === "done") {
          return response.result as WorkResult<K>;
        }
        yield response.bytes;
        say(port, "more");
      }
    } finally {
      signal.removeEventListener("abort", cancel);
      cancel();
      await inbox.drain();
      port.close();
      this.#running.delete(thread);
      this.#allEnded?.();
      this.#giveBack(thread);
    }
  }

  /** Ends all threads; what they are doing fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const give of this.#waiting.splice(0)) {
      give(undefined);
    }
    await this.#giveUpAll();
    await Promise.all([...this.#all].map((thread) => this.#end(thread)));
  }

  async #giveUpAll(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const overdue = setTimeout(resolve, givingUpMsMax);
    this.#allEnded = () => {
      if (this.#running.size === 0) {
        resolve();
      }
    };
    this.#running.forEach((giveUp) => giveUp());
    this.#allEnded();
    await promise;
    clearTimeout(overdue);
  }

  async #take(signal: AbortSignal): Promise<Worker> {
    signal.throwIfAborted();
    if (this.#closed) {
      throw stopping();
    }
    const [idle] = this.#idle;
    if (idle !== undefined) {
      const [thread, timer] = idle;
      clearTimeout(timer);
      this.#idle.delete(thread);
      return thread;
    }
    if (this.#all.size < this.#threadsMax) {
      return this.#start();
    }
    if (this.#waiting.length >= waitingMax) {
      throw failure(ErrorKind.ResourceExhausted, `${waitingMax} jobs are waiting for a thread`);
    }
    const given = await this.#wait(signal);
    if (given === undefined) {
      throw stopping();
    }
    return given;
  }

  /** Waits for a thread that somebody gives back; undefined when the process stops. */
  async #wait(signal: AbortSignal): Promise<Worker | undefined> {
    const turn = Promise.withResolvers<Worker | undefined>();
    const giveUp = (): void => {
      const place = this.#waiting.indexOf(turn.resolve);
      if (place >= 0) {
        this.#waiting.splice(place, 1);
        turn.reject(signal.reason as Error);
      }
    };
    this.#waiting.push(turn.resolve);
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      return await turn.promise;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  #start(): Worker {
    const thread = new Worker(this.#program);
    // The port of its job closes when a thread ends, which is how the job learns of it; the reason comes before.
    thread.on("error", (error) => this.#deaths.set(thread, error));
    thread.once("exit", () => void this.#end(thread));
    this.#all.add(thread);
    return thread;
  }

  #giveBack(thread: Worker): void {
    const next = this.#waiting.shift();
    if (next !== undefined) {
      next(this.#all.has(thread) ? thread : this.#start());
    } else if (this.#all.has(thread)) {
      this.#idle.set(thread, setTimeout(() => void this.#end(thread), idleMs).unref());
      thread.unref();
    }
  }

  async #end(thread: Worker): Promise<void> {
    clearTimeout(this.#idle.get(thread));
    this.#idle.delete(thread);
    this.#all.delete(thread);
    await thread.terminate();
    releaseFreeMemory();
  }

  #lost(thread: Worker): FlotillaError {
    const error = this.#deaths.get(thread);
    const reason = error === undefined ? "" : `: ${errorMessage(error)}`;
    return failure(ErrorKind.Unavailable, `the thread that did the work has ended${reason}`, { cause: error });
  }
}

/** What has come from a thread and was not looked at yet. The thread sends no more than it has credit for. */
class Inbox {
  readonly #arrived: Exclude<JobResponse, { kind: "progress" }>[] = [];
  #ended = false;
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(port: MessagePort, onProgress: (usedBytes: number) => void) {
    port.on("message", (response: JobResponse) => {
      if (response.kind === "progress") {
        onProgress(response.usedBytes);
        return;
      }
      this.#arrived.push(response);
      this.#wake();
    });
    port.once("close", () => {
      this.#closed = true;
      this.#wake();
    });
  }

  /** The next response; undefined when the thread has ended without one. */
  async next(): Promise<Exclude<JobResponse, { kind: "progress" }> | undefined> {
    for (;;) {
      const response = this.#arrived.shift();
      if (response !== undefined || this.#closed) {
        this.#ended = response?.kind !== "piece";
        return response;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Waits for the end of the job, whatever comes before it. */
  async drain(): Promise<void> {
    while (!this.#ended) {
      await this.next();
    }
  }
}

/** The error of a job, as it was on the thread: class, text and code of the system. */
function jobFailure({ errorKind, message, code, stack }: Extract<JobEnd, { kind: "failed" }>): FlotillaError {
  const error = new FlotillaError(errorKind, message, { cause: stack });
  return code === undefined ? error : Object.assign(error, { code });
}

function say(port: MessagePort, request: JobRequest): void {
  port.postMessage(request, []);
}

function stopping(): FlotillaError {
  return failure(ErrorKind.Unavailable, "the process is stopping");
}
