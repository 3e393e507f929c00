import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { ttrpcFrameBytesMax } from "#base/limits.ts";

/** What a frame is for. @source containerd/ttrpc PROTOCOL.md "Message Types" */
export const FrameType = { Request: 1, Response: 2, Data: 3 } as const;

/** Length of what comes before the data of a frame: data length, stream id, type, flags. */
export const frameHeaderBytes = 10;

/** Lengths from here on have a first byte that the protocol reserves as zero, so the peer speaks something else. */
const reservedLengthBytes = 16 * 1024 * 1024;

/** One frame as it came off the wire. Types that nobody knows pass, since later versions may add some. */
export interface Frame {
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
  /** A view of received memory that nobody changes any more. */
  readonly data: Buffer;
}

/** A frame whose data was too long: the data is skipped, the stream that it belongs to must fail. */
export interface OversizedFrame {
  readonly streamId: number;
  readonly oversizedBytes: number;
}

/**
 * Encodes one frame.
 *
 * @throws {@link FlotillaError} `resource_exhausted` when the data is longer than 4 MiB.
 * @source containerd/ttrpc PROTOCOL.md "Message Frame"
 */
export function encodeFrame(frame: {
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
  readonly data?: Uint8Array | undefined;
}): Buffer {
  const dataBytes = frame.data?.byteLength ?? 0;
  if (dataBytes > ttrpcFrameBytesMax) {
    throw oversizedMessage(dataBytes);
  }
  const encoded = Buffer.allocUnsafe(frameHeaderBytes + dataBytes);
  encoded.writeUInt32BE(dataBytes, 0);
  encoded.writeUInt32BE(frame.streamId, 4);
  encoded[8] = frame.type;
  encoded[9] = frame.flags;
  if (frame.data !== undefined) {
    encoded.set(frame.data, frameHeaderBytes);
  }
  return encoded;
}

/** The error for a message that does not fit into a frame. @source containerd/ttrpc channel.go `(*channel).recv` */
export function oversizedMessage(dataBytes: number): FlotillaError {
  return new FlotillaError(
    ErrorKind.ResourceExhausted,
    `message length ${dataBytes} exceed maximum message size of ${ttrpcFrameBytesMax}`,
  );
}

/**
 * Cuts a stream of bytes into frames, whatever the pieces in which it arrives. Keeps at most one
 * incomplete frame, that is 4 MiB, and skips the data of frames that are too long without keeping it.
 */
export class FrameParser {
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #wantedBytes = frameHeaderBytes;
  #skipBytes = 0;

  /**
   * Takes the next piece and gives the frames that it completes, in order.
   *
   * @throws {@link FlotillaError} `invalid_argument` when the peer does not speak ttrpc; the parser is useless then.
   */
  *push(chunk: Buffer): Generator<Frame | OversizedFrame> {
    let rest = this.#skip(chunk);
    while (this.#pendingBytes + rest.length >= this.#wantedBytes) {
      const buffer = this.#take(rest);
      const dataBytes = buffer.readUInt32BE(0);
      const streamId = buffer.readUInt32BE(4);
      if (dataBytes >= reservedLengthBytes) {
        throw new FlotillaError(ErrorKind.InvalidArgument, "the first byte of a ttrpc frame is not zero");
      }
      if (dataBytes > ttrpcFrameBytesMax) {
        this.#skipBytes = dataBytes;
        rest = this.#skip(buffer.subarray(frameHeaderBytes));
        yield { streamId, oversizedBytes: dataBytes };
        continue;
      }
      const frameBytes = frameHeaderBytes + dataBytes;
      rest = buffer;
      if (buffer.length < frameBytes) {
        this.#wantedBytes = frameBytes;
        continue;
      }
      rest = buffer.subarray(frameBytes);
      yield {
        streamId,
        type: buffer.readUInt8(8),
        flags: buffer.readUInt8(9),
        data: buffer.subarray(frameHeaderBytes, frameBytes),
      };
    }
    if (rest.length > 0) {
      this.#pending.push(rest);
      this.#pendingBytes += rest.length;
    }
  }

  /** Joins what is kept with the rest, so that at least the wanted bytes lie in one piece. */
  #take(rest: Buffer): Buffer {
    this.#wantedBytes = frameHeaderBytes;
    if (this.#pendingBytes === 0) {
      return rest;
    }
    const joined = Buffer.concat([...this.#pending, rest]);
    this.#pending = [];
    this.#pendingBytes = 0;
    return joined;
  }

  #skip(chunk: Buffer): Buffer {
    const skippedBytes = Math.min(this.#skipBytes, chunk.length);
    this.#skipBytes -= skippedBytes;
    return skippedBytes === 0 ? chunk : chunk.subarray(skippedBytes);
  }
}
