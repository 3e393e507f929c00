import type { Descriptor } from "../registry/ports.ts";

/** One step of a transfer, as clients are told of it. */
export interface ProgressEvent {
  readonly event: string;
  /** What it is about: an image, or a blob by its ref. Absent for the transfer as a whole. */
  readonly name?: string;
  /** Names of what it belongs to. */
  readonly parents?: readonly string[];
  /** In bytes. */
  readonly progress?: number;
  /** In bytes. */
  readonly total?: number;
  readonly descriptor?: Descriptor;
}

/** Takes events. Never waits and never fails. */
export type ProgressSink = (event: ProgressEvent) => void;
