import { ConnectionFault, ErrorCode, windowBytesMax } from "./protocol.ts";

/**
 * The number that is all of a frame's payload.
 *
 * @throws ConnectionFault when the payload has another size.
 */
export function readWord(buffer: Buffer, start: number, end: number): number {
  requireSize(end - start, 4, "frame");
  return buffer.readUInt32BE(start);
}

/** The stream that another depends on. @source RFC 9113 section 5.3.2 */
export function dependencyAt(buffer: Buffer, start: number): number {
  return buffer.readUInt32BE(start) & 0x7fff_ffff;
}

/** What is wrong with a PRIORITY frame, which is a fault of its stream alone; undefined when nothing is. @source RFC 9113 section 6.3 */
export function findPriorityFault(
  buffer: Buffer,
  start: number,
  end: number,
  streamId: number,
): ConnectionFault | undefined {
  if (end - start !== 5) {
    return new ConnectionFault(ErrorCode.FrameSizeError, "PRIORITY is not 5 bytes long");
  }
  return dependencyAt(buffer, start) === streamId
    ? new ConnectionFault(ErrorCode.ProtocolError, "a stream depends on itself")
    : undefined;
}

/**
 * What a GOAWAY says.
 *
 * @throws ConnectionFault when it is too short for that.
 */
export function readGoaway(
  buffer: Buffer,
  start: number,
  end: number,
): { readonly lastStreamId: number; readonly code: number } {
  if (end - start < 8) {
    throw new ConnectionFault(ErrorCode.FrameSizeError, "GOAWAY is shorter than 8 bytes");
  }
  return { lastStreamId: buffer.readUInt32BE(start) & windowBytesMax, code: buffer.readUInt32BE(start + 4) };
}

/** @throws ConnectionFault when a frame names no stream. */
export function requireStream(streamId: number): void {
  if (streamId === 0) {
    throw new ConnectionFault(ErrorCode.ProtocolError, "frame needs a stream");
  }
}

/** @throws ConnectionFault when a frame names a stream. */
export function requireConnection(streamId: number): void {
  if (streamId !== 0) {
    throw new ConnectionFault(ErrorCode.ProtocolError, "frame belongs to no stream");
  }
}

/** @throws ConnectionFault when a payload has another size than it must have. */
export function requireSize(sizeBytes: number, expectedBytes: number, what: string): void {
  if (sizeBytes !== expectedBytes) {
    throw new ConnectionFault(ErrorCode.FrameSizeError, `${what} is not ${expectedBytes} bytes long`);
  }
}

/**
 * Where the data of a padded DATA frame lies.
 *
 * @throws ConnectionFault when the frame is shorter than its padding.
 */
export function dataWithoutPadding(
  buffer: Buffer,
  payloadStart: number,
  frameEnd: number,
): { readonly start: number; readonly end: number } {
  const paddingBytes = payloadStart < frameEnd ? (buffer[payloadStart] as number) : -1;
  const start = payloadStart + 1;
  const end = frameEnd - paddingBytes;
  if (paddingBytes < 0 || start > end) {
    throw new ConnectionFault(ErrorCode.ProtocolError, "DATA is shorter than its padding");
  }
  return { start, end };
}
