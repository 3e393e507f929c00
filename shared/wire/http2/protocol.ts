/** Types of frames: those of RFC 9113 section 6, and ours out of those for experiments. @source RFC 7540 section 11.2 */
export const FrameType = {
  Data: 0,
  Headers: 1,
  Priority: 2,
  ResetStream: 3,
  Settings: 4,
  PushPromise: 5,
  Ping: 6,
  Goaway: 7,
  WindowUpdate: 8,
  Continuation: 9,
  /** A service tells the gateway where its response goes on if it dies; others ignore it. See `Call.resumeAt`. */
  ResumePoint: 0xf1,
} as const;

/** Flags of frames. @source RFC 9113 section 6 */
export const Flag = {
  EndStream: 0x1,
  /** Of SETTINGS and PING. */
  Ack: 0x1,
  EndHeaders: 0x4,
  Padded: 0x8,
  Priority: 0x20,
} as const;

/** Why a stream or a connection ends. @source RFC 9113 section 7 */
export const ErrorCode = {
  NoError: 0,
  ProtocolError: 1,
  InternalError: 2,
  FlowControlError: 3,
  StreamClosed: 5,
  FrameSizeError: 6,
  RefusedStream: 7,
  Cancel: 8,
  CompressionError: 9,
  EnhanceYourCalm: 11,
} as const;

/** Identifiers of settings: those of RFC 9113 section 6.5.2, and ours out of those that are nobody's. @source RFC 9113 section 11.3 */
export const SettingId = {
  HeaderTableSize: 1,
  EnablePush: 2,
  MaxConcurrentStreams: 3,
  InitialWindowSize: 4,
  MaxFrameSize: 5,
  MaxHeaderListSize: 6,
  /** The gateway tells services how large messages of clients may be, which no client can. */
  ReceivedMessageSize: 0xf0c1,
  /** The same of messages of answers. */
  SentMessageSize: 0xf0c2,
  /** The two halves of the name that calls of a connection are known by; see `call-id.ts`. */
  CallOriginProcess: 0xf0c3,
  CallOriginNumber: 0xf0c4,
} as const;

/** What a client sends first. @source RFC 9113 section 3.4 */
export const clientPreface: Buffer = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** What stands before the payload of every frame. @source RFC 9113 section 4.1 */
export const frameHeadBytes = 9;

/** Window of a stream and of a connection until settings or updates say otherwise. @source RFC 9113 section 6.9.2 */
export const defaultWindowBytes = 65_535;

/** No window may grow beyond this. @source RFC 9113 section 6.9.1 */
export const windowBytesMax = 0x7fff_ffff;

/** Size of the header table that both sides begin with. @source RFC 9113 section 6.5.2 */
export const defaultHeaderTableBytes = 4096;

/** A peer broke a rule that concerns the whole connection; it ends with GOAWAY and this code. */
export class ConnectionFault extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.name = "ConnectionFault";
    this.code = code;
  }
}
