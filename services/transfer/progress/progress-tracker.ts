import { refKeyOf } from "../domain/ref-key.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { ProgressEvent, ProgressSink } from "./progress.ts";

/** How often clients are told of bytes. @source containerd v2.3.4 core/transfer/local/progress.go `HandleProgress` */
const tickMs = 300;

interface Job {
  readonly descriptor: Descriptor;
  readonly name: string;
  readonly parents: readonly string[];
  /** What a tick tells, undefined when there is nothing new. */
  tick: { readonly event: string; readonly bytes: number } | undefined;
  /** What was told last. */
  told: ProgressEvent;
}

/**
 * Turns what becomes of the blobs of an image into events as containerd words them: `waiting`, then bytes a few times a second, then
 * `complete` or `already exists`; for layers that are unpacked `extracting` and `extracted` after that.
 *
 * @source containerd v2.3.4 core/transfer/local/progress.go
 */
export class ProgressTracker implements Disposable {
  readonly #root: string;
  readonly #moving: "downloading" | "uploading";
  readonly #sink: ProgressSink;
  readonly #jobs = new Map<string, Job>();
  readonly #parents = new Map<string, string[]>();
  readonly #timer: NodeJS.Timeout;

  /** @param root - Name of what has no other parent. */
  constructor(root: string, moving: "downloading" | "uploading", sink: ProgressSink) {
    this.#root = root;
    this.#moving = moving;
    this.#sink = sink;
    this.#timer = setInterval(() => this.#tick(), tickMs);
  }

  /** Says what belongs to what. Counts for children that are not added yet. */
  addChildren(parent: Descriptor, children: readonly Descriptor[]): void {
    const name = refKeyOf(parent);
    for (const { digest } of children) {
      this.#parents.set(digest, [...(this.#parents.get(digest) ?? []), name]);
    }
  }

  /** Says that a blob will be transferred. */
  add(descriptor: Descriptor): void {
    this.#job(descriptor);
  }

  /** Says how many bytes of a blob are across. */
  move(descriptor: Descriptor, bytes: number): void {
    this.#job(descriptor).tick = { event: this.#moving, bytes };
  }

  /** Says that a blob is across. */
  complete(descriptor: Descriptor): void {
    this.#end(descriptor, "complete");
  }

  /** Says that a blob need not be transferred. */
  exists(descriptor: Descriptor): void {
    const job = this.#job(descriptor);
    const { size } = descriptor;
    this.#tell(job, { event: "already exists", name: job.name, progress: size, total: size, descriptor });
  }

  /** Says how many bytes of a layer are unpacked. */
  extract(descriptor: Descriptor, bytes: number): void {
    this.#job(descriptor).tick = { event: "extracting", bytes };
  }

  /** Says that a layer is unpacked. */
  extracted(descriptor: Descriptor): void {
    this.#end(descriptor, "extracted");
  }

  /** Tells once more what was told last of a blob. Clients show what they have been told of the whole when they are told of a part. */
  repeat(descriptor: Descriptor): void {
    this.#sink(this.#job(descriptor).told);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #job(descriptor: Descriptor): Job {
    let job = this.#jobs.get(descriptor.digest);
    if (job === undefined) {
      const name = refKeyOf(descriptor);
      const parents = this.#parents.get(descriptor.digest) ?? [this.#root];
      const told = { event: "waiting", name, parents, progress: 0, total: descriptor.size, descriptor };
      job = { descriptor, name, parents, tick: undefined, told };
      this.#jobs.set(descriptor.digest, job);
      this.#sink(told);
    }
    return job;
  }

  #end(descriptor: Descriptor, event: string): void {
    const job = this.#job(descriptor);
    const { size } = descriptor;
    this.#tell(job, { event, name: job.name, parents: job.parents, progress: size, total: size, descriptor });
  }

  #tell(job: Job, event: ProgressEvent): void {
    job.tick = undefined;
    job.told = event;
    this.#sink(event);
  }

  #tick(): void {
    for (const job of this.#jobs.values()) {
      const { tick, told, name, parents, descriptor } = job;
      if (tick !== undefined && (tick.event !== told.event || tick.bytes > (told.progress ?? 0))) {
        const { event, bytes } = tick;
        this.#tell(job, { event, name, parents, progress: bytes, total: descriptor.size, descriptor });
      }
    }
  }
}
