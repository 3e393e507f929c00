import type { Chunk } from "./chunk.ts";
import type { FrameWriter } from "./frame-writer.ts";

/** A header block that waits behind DATA. */
export interface HeaderBytes {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
}

/** A connection that bytes come from. */
export interface DataSource {
  readonly writer: FrameWriter;
  /** Payload was passed on, used or thrown away, so that the sender may send as much again on the connection. */
  returnCredit(sizeBytes: number, sink: DataSink | undefined): void;
  /** The chunk that is being read must stay, since a part of it has to wait. Returns it, if it is one that can be released. */
  holdChunk(): Chunk | undefined;
}

/** A connection that bytes go to. */
export interface DataSink {
  readonly writer: FrameWriter;
  /** What the receiver allows to be sent on the whole connection. */
  sendWindowBytes: number;
  /** Gives a source credit back when what is unwritten has drained. */
  parkCredit(source: DataSource, sizeBytes: number): void;
  /** Calls {@link WindowWaiter.flow} when the window of the connection has opened. */
  waitForWindow(waiter: WindowWaiter): void;
  sendHeaders(streamId: number, block: HeaderBytes, endStream: boolean): void;
  /** The end of what a stream sends has been sent. */
  endSent(streamId: number): void;
}

/** What sends on a connection, and waits where its window is used up. */
export interface WindowWaiter {
  isWaitingForWindow: boolean;
  /**
   * Sends what waits, as far as the windows allow.
   *
   * @param turnBytes - How much may be sent before others have their turn.
   */
  flow(turnBytes: number): void;
}

/** Who is told when a socket takes more. */
export interface DrainWaiter {
  /** Everything is written. */
  socketDrained(): void;
}

/** All of a buffer, as a header block. */
export function wholeBuffer(buffer: Buffer): HeaderBytes {
  return { buffer, start: 0, end: buffer.length };
}
