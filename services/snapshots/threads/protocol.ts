import type { MessagePort } from "node:worker_threads";
import type { ErrorKind } from "#base/errors.ts";
import type { SnapshotUsage } from "../drivers/driver.ts";
import type { AppliedLayer, ApplyJob } from "../layers/apply.ts";
import type { ImageJob } from "../layers/erofs/make-image.ts";
import type { AdoptJob } from "../layers/implied-directories.ts";
import type { CompareJob, WrittenLayer } from "../layers/layer-stream.ts";

/** What a thread can do, with what it is given and what comes of it. All of it is plain data. */
export interface ThreadWork {
  /** Applies a layer. */
  apply: { readonly input: ApplyJob; readonly result: AppliedLayer };
  /** Makes the image of a layer. */
  makeImage: { readonly input: ImageJob; readonly result: AppliedLayer };
  /** Writes the difference between two trees, whose bytes come in pieces. */
  compare: { readonly input: CompareJob; readonly result: WrittenLayer };
  /** Gives directories that a layer implied the attributes of those below. */
  adopt: { readonly input: AdoptJob; readonly result: undefined };
  /** Counts the blocks and inodes of a tree. */
  measure: {
    readonly input: { readonly root: string; readonly base: string | undefined };
    readonly result: SnapshotUsage;
  };
  /** Deletes trees. */
  remove: { readonly input: readonly string[]; readonly result: undefined };
  /** Copies a file to a new place. */
  copyFile: { readonly input: { readonly source: string; readonly target: string }; readonly result: undefined };
  /** Copies a tree into an existing directory. */
  copy: { readonly input: { readonly source: string; readonly target: string }; readonly result: undefined };
}

export type WorkKind = keyof ThreadWork;
export type WorkInput<K extends WorkKind> = ThreadWork[K]["input"];
export type WorkResult<K extends WorkKind> = ThreadWork[K]["result"];

/** One job. A thread does one at a time and says what there is to say on the port that came with the job. */
export type ThreadJob = { readonly [K in WorkKind]: { readonly kind: K; readonly input: WorkInput<K> } }[WorkKind];

export interface JobMessage {
  readonly job: ThreadJob;
  readonly port: MessagePort;
}

/** What goes to a thread during a job: `more`: a piece has been used; `cancel`: end the job, and still answer. */
export type JobRequest = "more" | "cancel";

/** What comes back: pieces and news on the way, and one of the others at the end. */
export type JobResponse =
  | { readonly kind: "piece"; readonly bytes: Uint8Array }
  | { readonly kind: "progress"; readonly usedBytes: number }
  | JobEnd;

export type JobEnd =
  | { readonly kind: "done"; readonly result: unknown }
  | {
      readonly kind: "failed";
      readonly errorKind: ErrorKind;
      readonly message: string;
      /** Of a system error, such as `ENOENT`. */
      readonly code: string | undefined;
      readonly stack: string | undefined;
    };

/** Pieces that may be on the way to the receiver. */
export const piecesOnTheWayMax = 8;
