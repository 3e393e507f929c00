import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** Types of control frames. @source SPDY protocol draft 3.1, section 2.6 */
export const FrameType = {
  SynStream: 1,
  SynReply: 2,
  RstStream: 3,
  Settings: 4,
  Ping: 6,
  GoAway: 7,
  Headers: 8,
  WindowUpdate: 9,
} as const;

/** Why a stream is reset. @source SPDY protocol draft 3.1, section 2.6.3 */
export const ResetStatus = {
  ProtocolError: 1,
  InvalidStream: 2,
  RefusedStream: 3,
  Cancel: 5,
  InternalError: 6,
} as const;

/** Why a connection is left. @source SPDY protocol draft 3.1, section 2.6.6 */
export const GoAwayStatus = { Ok: 0, ProtocolError: 1, InternalError: 2 } as const;

/** Says that a side sends no more on a stream. */
export const finFlag = 0x01;

const frameHeadBytes = 8;
const version = 3;
const controlBit = 0x80;

/** Largest control frame that is taken: one that opens a stream of Kubernetes has a hundred bytes. */
const controlBytesMax = 64 * 1024;

/** A control frame, or a piece of a data frame: pieces go on as they arrive. */
export type Frame =
  | { readonly kind: "control"; readonly type: number; readonly flags: number; readonly payload: Buffer }
  | { readonly kind: "data"; readonly streamId: number; readonly bytes: Uint8Array; readonly isLast: boolean };

/**
 * Takes the bytes of a connection apart.
 *
 * Holds at most one control frame; pieces of data are views of what was given.
 */
export class FrameReader {
  /** The head and, of a control frame, what came of the payload. */
  #collected: Buffer = Buffer.alloc(0);
  #data: { readonly streamId: number; readonly isFin: boolean; leftBytes: number } | undefined;

  /** @throws {@link FlotillaError} `invalid_argument` for bytes that are not SPDY/3. */
  *read(bytes: Uint8Array): Generator<Frame> {
    let rest = bytes;
    while (rest.length > 0 || this.#data?.leftBytes === 0) {
      if (this.#data !== undefined) {
        const piece = rest.subarray(0, this.#data.leftBytes);
        rest = rest.subarray(piece.length);
        this.#data.leftBytes -= piece.length;
        const isWhole = this.#data.leftBytes === 0;
        yield { kind: "data", streamId: this.#data.streamId, bytes: piece, isLast: isWhole && this.#data.isFin };
        if (isWhole) {
          this.#data = undefined;
        }
      } else {
        const taken = this.#collect(rest);
        rest = rest.subarray(taken);
        yield* this.#finished();
      }
    }
  }

  /** Takes what the head, or the control frame, still needs. */
  #collect(bytes: Uint8Array): number {
    const wanted = this.#collected.length < frameHeadBytes ? frameHeadBytes : this.#frameBytes();
    const taken = bytes.subarray(0, wanted - this.#collected.length);
    this.#collected = Buffer.concat([this.#collected, taken]);
    return taken.length;
  }

  #frameBytes(): number {
    return frameHeadBytes + this.#collected.readUIntBE(5, 3);
  }

  *#finished(): Generator<Frame> {
    const head = this.#collected;
    if (head.length < frameHeadBytes) {
      return;
    }
    const flags = head.readUInt8(4);
    if ((head.readUInt8(0) & controlBit) === 0) {
      this.#data = {
        streamId: head.readUInt32BE(0),
        isFin: (flags & finFlag) !== 0,
        leftBytes: head.readUIntBE(5, 3),
      };
      this.#collected = Buffer.alloc(0);
      return;
    }
    checkControlHead(head);
    if (head.length === this.#frameBytes()) {
      this.#collected = Buffer.alloc(0);
      yield { kind: "control", type: head.readUInt16BE(2), flags, payload: head.subarray(frameHeadBytes) };
    }
  }
}

function checkControlHead(head: Buffer): void {
  const frameVersion = head.readUInt16BE(0) & 0x7fff;
  if (frameVersion !== version) {
    throw new FlotillaError(ErrorKind.InvalidArgument, `frame of SPDY version ${frameVersion}`);
  }
  const length = head.readUIntBE(5, 3);
  if (length > controlBytesMax) {
    throw new FlotillaError(ErrorKind.InvalidArgument, `control frame of ${length} bytes, at most ${controlBytesMax}`);
  }
}

/** Largest piece of data in one frame. @source SPDY protocol draft 3.1, section 2.2.2 */
export const dataBytesMax = 0xff_ffff;

/** The head of a data frame, after which the data comes as it is. */
export function dataFrameHead(streamId: number, flags: number, length: number): Buffer {
  const head = Buffer.alloc(frameHeadBytes);
  head.writeUInt32BE(streamId, 0);
  head.writeUInt8(flags, 4);
  head.writeUIntBE(length, 5, 3);
  return head;
}

/** A control frame. */
export function controlFrame(type: number, flags: number, ...payload: readonly Uint8Array[]): Buffer {
  const head = Buffer.alloc(frameHeadBytes);
  const length = payload.reduce((sum, piece) => sum + piece.length, 0);
  head.writeUInt16BE(0x8000 | version, 0);
  head.writeUInt16BE(type, 2);
  head.writeUInt8(flags, 4);
  head.writeUIntBE(length, 5, 3);
  return Buffer.concat([head, ...payload]);
}

/** Numbers of a payload, four bytes each. */
export function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4));
  return bytes;
}
