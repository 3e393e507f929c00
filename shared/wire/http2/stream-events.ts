import type { CallUnderWay } from "../observe.ts";
import type { HeaderList } from "./header-list.ts";

/** What comes from the peer on a stream. */
export interface StreamEvents {
  /** The call that the stream is, where it is one. */
  readonly call?: CallUnderWay;
  /** The fields that begin a response, or those that come before it. */
  onHeaders?(list: HeaderList): void;
  /**
   * A piece of the body, as the socket gave it. Who keeps it beyond the call says so by `EndpointStream.keepChunk`, and
   * who has used it by `EndpointStream.consume`.
   *
   * @param isLast - Whether nothing more comes; `onEnd` is not called then.
   */
  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void;
  /** Nothing more comes. */
  onEnd(trailers: HeaderList | undefined): void;
  /** The stream is over before both sides have ended it: the peer reset it, or the connection is lost. */
  onAbort(code: number | undefined): void;
  /** What had to wait has been sent. */
  onDrained?(): void;
}

/** What a stream tells while nobody wants to know. */
export const ignoredStream: StreamEvents = {
  onData: () => undefined,
  onEnd: () => undefined,
  onAbort: () => undefined,
};
