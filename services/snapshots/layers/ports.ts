import type { Labels } from "#containerd/labels.ts";
import type { Mount } from "#linux/mount.ts";
import type { MeasuredDirectory } from "../drivers/usage.ts";
import type { AppliedLayer, ApplyJob } from "./apply.ts";
import type { ImageJob } from "./erofs/make-image.ts";
import type { AdoptJob } from "./implied-directories.ts";
import type { CompareJob, WrittenLayer } from "./layer-stream.ts";

/** On whose behalf content is read and written. */
export interface ContentOwner {
  readonly namespace: string;
  /** Lease that shall hold what is written, "" for none. */
  readonly lease: string;
  readonly signal: AbortSignal;
}

/** What a differ asks of the processes that keep blobs. */
export interface BlobStore {
  /**
   * Where the immutable file of a blob lies.
   *
   * @throws {@link FlotillaError} `not_found`
   */
  locate(owner: ContentOwner, digest: string): Promise<string>;
  /**
   * Writes a new blob. What an ingest of that ref has already is thrown away. When it fails the ingest stays, without lock.
   *
   * @param labels - Called after the last byte.
   * @throws {@link FlotillaError} `unavailable` when somebody else is writing to the ref; what `bytes` throws.
   */
  write(owner: ContentOwner, ref: string, bytes: AsyncIterable<Uint8Array>, labels: () => Labels): Promise<WrittenBlob>;
  /** Throws an ingest away. */
  abort(owner: ContentOwner, ref: string): Promise<void>;
  /** Gives a blob a label, in place of one of that key. */
  setLabel(owner: ContentOwner, digest: string, key: string, value: string): Promise<void>;
  /** Gives a blob a label unless it has one of that key. */
  addLabel(owner: ContentOwner, digest: string, key: string, value: string): Promise<void>;
}

export interface WrittenBlob {
  readonly digest: string;
  readonly sizeBytes: bigint;
  /** The namespace had the blob before; its labels are what they were. */
  readonly existed: boolean;
}

/** Threads on which layers are read and written, with a umask of 0. A signal ends a job early, with its work half done. */
export interface LayerWorkers {
  /** Says that so many layers are about to be applied. */
  prepare(layers: number): void;
  /** See `applyLayer`. */
  apply(job: ApplyJob, signal: AbortSignal, onProgress?: (usedBytes: number) => void): Promise<AppliedLayer>;
  /** See `makeImage`. */
  makeImage(job: ImageJob, signal: AbortSignal, onProgress?: (usedBytes: number) => void): Promise<AppliedLayer>;
  /** See `streamLayer`. Whoever stops reading early ends the job. */
  compare(job: CompareJob, signal: AbortSignal): AsyncGenerator<Uint8Array, WrittenLayer>;
  /** See `adoptDirectories`. */
  adopt(job: AdoptJob, signal: AbortSignal): Promise<void>;
}

/** Carries out mounts that mount(2) alone cannot. */
export interface LayerMounts {
  /**
   * Has mounts carried out, for as long as a function runs.
   *
   * @param use - Gets what is left to mount: all of it, when there was nothing to do.
   */
  withActivated<T>(mounts: readonly Mount[], use: (system: readonly Mount[]) => Promise<T>): Promise<T>;
}

/** The snapshots of one snapshotter in one namespace, under one lease. All of it throws {@link FlotillaError}. */
export interface ChainSnapshots {
  /** The snapshotter's name. */
  readonly snapshotter: string;
  /** Whether a snapshot may be made without its parent, and get it when it is committed. */
  readonly canRebase: boolean;
  /** Whether there is a committed snapshot of that name. */
  exists(name: string): Promise<boolean>;
  /**
   * Makes an active snapshot.
   *
   * @throws `already_exists` when the key is taken, or when the snapshot that the label `containerd.io/snapshot.ref` names is there.
   */
  prepare(snapshot: {
    readonly key: string;
    readonly parent: string;
    readonly labels: Labels;
  }): Promise<readonly Mount[]>;
  /**
   * Does what the commit of a snapshot would do first, for one that is not changed any more. Only where snapshots can be made without their
   * parents, whose commits have to wait for each other.
   *
   * @param measured - What was counted of the directory that it was written in.
   */
  settle(key: string, measured?: MeasuredDirectory): Promise<void>;
  /** Commits an active snapshot. @throws `already_exists` when the name is taken; the active one stays then. */
  commit(commit: {
    readonly key: string;
    readonly name: string;
    readonly parent: string;
    readonly labels: Labels;
  }): Promise<void>;
  /** Removes an active snapshot. One that is not there is no error. */
  remove(key: string): Promise<void>;
  /** The mounts that show a committed snapshot, with nothing made for it. */
  view(name: string): Promise<readonly Mount[]>;
}
