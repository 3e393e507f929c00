import type { HeaderBytes } from "#wire/http2/data-flow.ts";
import { Flag, FrameType, frameHeadBytes } from "#wire/http2/protocol.ts";

/** Frames of an answer that are looked at ahead: DATA, and the HEADERS that end it. */
const framesMax = 2;

/**
 * Whether the rest of an answer has come with its head, as that of most calls does: so it need not wait anywhere until it is complete.
 *
 * @param head - The HEADERS frame with which the answer begins, where it lies.
 */
export function isWholeBehind(head: HeaderBytes | undefined): boolean {
  if (head === undefined) {
    return false;
  }
  const { buffer, start, end } = head;
  let at = end;
  for (let frames = 0; frames < framesMax && at + frameHeadBytes <= buffer.length; frames++) {
    const isOfStream = buffer.readUInt32BE(at + 5) === buffer.readUInt32BE(start + 5);
    const type = buffer[at + 3];
    const flags = buffer[at + 4] as number;
    at += frameHeadBytes + buffer.readUIntBE(at, 3);
    if (!isOfStream || at > buffer.length) {
      return false;
    }
    if (type === FrameType.Headers) {
      return flags === (Flag.EndStream | Flag.EndHeaders);
    }
    if (type !== FrameType.Data || flags !== 0) {
      return false;
    }
  }
  return false;
}
