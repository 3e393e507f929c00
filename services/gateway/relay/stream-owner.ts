import type { Http2Connection } from "#wire/http2/connection.ts";
import type { MessageLimits } from "#wire/message-limits.ts";
import type { RelayedStream } from "./stream.ts";

/** The client connection that an upstream connection works for. */
export interface StreamOwner extends Http2Connection {
  findStream(streamId: number): RelayedStream | undefined;
  relayedStreams(): readonly RelayedStream[];
  /** How large messages may be, which services are told. */
  readonly messageLimits: MessageLimits;
  /** The service, or the relay on its behalf, reset a stream. */
  resetByService(stream: RelayedStream, code: number): void;
  /** The end of the request or of the response has been sent. */
  endSent(streamId: number): void;
}
