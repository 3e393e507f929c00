import type { MessagePort } from "node:worker_threads";
import type { ErrorKind } from "#base/errors.ts";
import type { AppliedLayer, ApplyJob } from "./apply.ts";
import type { CompareJob, WrittenLayer } from "./layer-stream.ts";

/** What a thread is asked for. It does one job at a time and says what there is to say on the port that came with the job. */
export type LayerJob =
  | { readonly kind: "apply"; readonly job: ApplyJob }
  | { readonly kind: "compare"; readonly job: CompareJob };

export interface JobMessage {
  readonly request: LayerJob;
  readonly port: MessagePort;
}

/** What goes to a thread during a job: `more`: a piece of the layer has been used; `cancel`: end the job, and still answer. */
export type JobRequest = "more" | "cancel";

/** What comes back: pieces of a layer, and one of the others at the end. */
export type JobResponse = { readonly kind: "piece"; readonly bytes: Uint8Array } | JobResult;

export type JobResult =
  | { readonly kind: "applied"; readonly layer: AppliedLayer }
  | { readonly kind: "written"; readonly layer: WrittenLayer }
  | {
      readonly kind: "failed";
      readonly errorKind: ErrorKind;
      readonly message: string;
      readonly stack: string | undefined;
    };

/** Pieces of a layer that may be on the way to the receiver. */
export const piecesOnTheWayMax = 8;
