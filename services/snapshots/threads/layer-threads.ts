import { availableParallelism } from "node:os";
import type { AppliedLayer, ApplyJob } from "../layers/apply.ts";
import type { ImageJob } from "../layers/erofs/make-image.ts";
import type { AdoptJob } from "../layers/implied-directories.ts";
import type { CompareJob, WrittenLayer } from "../layers/layer-stream.ts";
import type { LayerWorkers } from "../layers/ports.ts";
import { WorkerPool } from "./worker-pool.ts";

/** Layers that are worked on at a time: reading, decompression and writing of one go on side by side already. */
const threadsMax = Math.min(4, Math.max(2, availableParallelism()));

/** Threads that read and write layers. */
export class LayerThreads implements LayerWorkers, AsyncDisposable {
  readonly #pool = new WorkerPool(threadsMax);

  prepare(layers: number): void {
    this.#pool.prepare(layers);
  }

  apply(job: ApplyJob, signal: AbortSignal, onProgress?: (usedBytes: number) => void): Promise<AppliedLayer> {
    return this.#pool.run("apply", job, signal, onProgress);
  }

  makeImage(job: ImageJob, signal: AbortSignal, onProgress?: (usedBytes: number) => void): Promise<AppliedLayer> {
    return this.#pool.run("makeImage", job, signal, onProgress);
  }

  compare(job: CompareJob, signal: AbortSignal): AsyncGenerator<Uint8Array, WrittenLayer> {
    return this.#pool.stream("compare", job, signal);
  }

  adopt(job: AdoptJob, signal: AbortSignal): Promise<void> {
    return this.#pool.run("adopt", job, signal);
  }

  /** Ends all threads; what they are doing fails. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#pool[Symbol.asyncDispose]();
  }
}
