import { availableParallelism } from "node:os";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { programUrl } from "#fleet/program.ts";
import { releaseFreeMemory } from "#linux/memory.ts";
import type { AppliedLayer, ApplyJob } from "./apply.ts";
import type { CompareJob, WrittenLayer } from "./layer-stream.ts";
import type { JobMessage, JobRequest, JobResponse, JobResult, LayerJob } from "./layer-thread-protocol.ts";

/** Threads at most: layers of one image come one after the other, several images at a time are rare. */
const threadsMax = Math.min(4, Math.max(2, availableParallelism()));
/** Jobs that may wait for a thread. */
const waitingMax = 1000;
/** A thread without work ends after this; it holds some 15 MB. */
const idleMs = 10_000;

/**
 * Threads that read and write layers. They are started when needed and end when there is nothing to do.
 *
 * A thread that dies takes its job with it, which fails; others are not touched.
 */
export class LayerThreads implements AsyncDisposable {
  readonly #all = new Set<Worker>();
  readonly #idle = new Map<Worker, NodeJS.Timeout>();
  readonly #waiting: ((thread: Worker | undefined) => void)[] = [];
  #closed = false;

  /** Applies a layer; see {@link applyLayer}. A signal ends it early, with the tree half written. */
  async apply(job: ApplyJob, signal: AbortSignal): Promise<AppliedLayer> {
    const { value: result } = await this.#run({ kind: "apply", job }, signal).next();
    if (result === undefined || !("kind" in result) || result.kind !== "applied") {
      throw new TypeError("a layer thread has answered another question");
    }
    return result.layer;
  }

  /** Writes a layer; see {@link streamLayer}. Whoever stops reading early ends the job. */
  async *compare(job: CompareJob, signal: AbortSignal): AsyncGenerator<Uint8Array, WrittenLayer> {
    const result = yield* this.#run({ kind: "compare", job }, signal);
    if (result.kind !== "written") {
      throw new TypeError("a layer thread has answered another question");
    }
    return result.layer;
  }

  /** Ends all threads; what they are doing fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const give of this.#waiting.splice(0)) {
      give(undefined);
    }
    await Promise.all([...this.#all].map((thread) => this.#end(thread)));
  }

  async *#run(request: LayerJob, signal: AbortSignal): AsyncGenerator<Uint8Array, JobResult> {
    const thread = await this.#take(signal);
    if (signal.aborted) {
      this.#giveBack(thread);
      signal.throwIfAborted();
    }
    const { port1: port, port2: theirs } = new MessageChannel();
    const inbox = new Inbox(port);
    const cancel = (): void => say(port, "cancel");
    try {
      const message: JobMessage = { request, port: theirs };
      thread.postMessage(message, [theirs]);
      signal.addEventListener("abort", cancel, { once: true });
      for (;;) {
        const response = await inbox.next();
        if (response.kind === "failed") {
          throw new FlotillaError(response.errorKind, response.message, { cause: response.stack });
        }
        if (response.kind !== "piece") {
          return response;
        }
        yield response.bytes;
        say(port, "more");
      }
    } finally {
      signal.removeEventListener("abort", cancel);
      cancel();
      await inbox.drain();
      port.close();
      this.#giveBack(thread);
    }
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
    if (this.#all.size < threadsMax) {
      return this.#start();
    }
    if (this.#waiting.length >= waitingMax) {
      throw failure(ErrorKind.ResourceExhausted, `${waitingMax} layers are waiting to be read or written`);
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
    const thread = new Worker(programUrl("services/snapshots/layers/layer-thread-main.ts"));
    // The port of its job closes when a thread ends, which is how the job learns of it.
    thread.on("error", () => undefined);
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
}

/** What has come from a thread and was not looked at yet. The thread sends no more than it has credit for. */
class Inbox {
  readonly #arrived: JobResponse[] = [];
  #ended = false;
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(port: MessagePort) {
    port.on("message", (response: JobResponse) => {
      this.#arrived.push(response);
      this.#wake();
    });
    port.once("close", () => {
      this.#closed = true;
      this.#wake();
    });
  }

  /** The next response. @throws {@link FlotillaError} `unavailable` when the thread has ended without one. */
  async next(): Promise<JobResponse> {
    for (;;) {
      const response = this.#arrived.shift();
      if (response !== undefined) {
        this.#ended = response.kind !== "piece";
        return response;
      }
      if (this.#closed) {
        this.#ended = true;
        throw failure(ErrorKind.Unavailable, "the thread that worked on the layer has ended");
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Waits for the end of the job, whatever comes before it. */
  async drain(): Promise<void> {
    for (;;) {
      if (this.#ended) {
        return;
      }
      await this.next().catch(() => undefined);
    }
  }
}

function say(port: MessagePort, request: JobRequest): void {
  port.postMessage(request, []);
}

function stopping(): FlotillaError {
  return failure(ErrorKind.Unavailable, "the process is stopping");
}
