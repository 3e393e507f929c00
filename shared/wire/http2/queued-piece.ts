/** Bytes that are to be sent, which nobody changes until they are. */
export interface QueuedPiece {
  readonly memory: Buffer;
  readonly start: number;
  readonly end: number;
  /** Whether the piece fits into a frame, whose head may be written into the memory before it. */
  readonly isSpaced: boolean;
}
