import type { ProgressSink } from "../progress/progress.ts";
import type { TransferContent } from "../store/content.ts";
import type { TransferImages } from "../store/images.ts";

/** What every transfer works with: its client's stores, and whom it tells how far it is. */
export interface TransferContext {
  readonly content: TransferContent;
  readonly images: TransferImages;
  readonly progress: ProgressSink;
  /** Aborts when the client gives up or the process stops. */
  readonly signal: AbortSignal;
}
