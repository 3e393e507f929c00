import type { Chunk } from "./chunk.ts";

/** Who has the writers of several connections write what they collected, at the same time. */
export interface WriterSchedule<W> {
  /** The chunk that is being read; a writer that keeps bytes of it holds it. */
  readonly chunk: Chunk | undefined;
  /** The writer has collected something. */
  add(writer: W): void;
  /** The writer has nothing unwritten any more, or is gone. */
  recover(writer: W): void;
}
