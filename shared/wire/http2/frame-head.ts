/** Writes what stands before the payload of a frame. @source RFC 9113 section 4.1 */
export function writeFrameHead(
  target: Buffer,
  at: number,
  lengthBytes: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  target[at] = lengthBytes >> 16;
  target[at + 1] = lengthBytes >> 8;
  target[at + 2] = lengthBytes;
  target[at + 3] = type;
  target[at + 4] = flags;
  writeStreamId(target, at, streamId);
}

/** Writes a stream id into the head of a frame. */
export function writeStreamId(target: Buffer, frameStart: number, streamId: number): void {
  target[frameStart + 5] = streamId >> 24;
  target[frameStart + 6] = streamId >> 16;
  target[frameStart + 7] = streamId >> 8;
  target[frameStart + 8] = streamId;
}
