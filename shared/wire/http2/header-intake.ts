import type { HeaderBytes } from "./data-flow.ts";
import { dependencyAt, requireStream } from "./frame-payload.ts";
import type { FrameReader } from "./frame-reader.ts";
import { HeaderAssembly } from "./header-assembly.ts";
import { type HeaderList, HeaderReader } from "./header-list.ts";
import { ConnectionFault, ErrorCode, Flag, FrameType, frameHeadBytes } from "./protocol.ts";

/** A header block that has arrived. */
export interface ReceivedHeaders {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly list: HeaderList;
  /** The HEADERS frame as it lies, if it may be forwarded so. */
  readonly frame: HeaderBytes | undefined;
  /** Whether the frame makes its stream depend on itself, which is a fault. */
  readonly dependsOnItself: boolean;
}

/** Makes header blocks of HEADERS and CONTINUATION, and keeps the state that the peer's blocks refer to. */
export class HeaderIntake {
  readonly #reader: FrameReader;
  readonly #headers = new HeaderReader();
  #assembly: HeaderAssembly | undefined;

  /** @param reader - Tells of the frame that is being read. */
  constructor(reader: FrameReader) {
    this.#reader = reader;
  }

  /** Whether a block has begun, so that nothing but its continuation may come. */
  get isInside(): boolean {
    return this.#assembly !== undefined;
  }

  /** Refuses blocks that need a larger table from now on. */
  limitTable(tableBytesMax: number): void {
    this.#headers.limitTable(tableBytesMax);
  }

  /**
   * Takes a HEADERS frame.
   *
   * @returns The block, unless other frames go on with it.
   * @throws ConnectionFault when it is malformed.
   */
  begin(buffer: Buffer, frameStart: number, frameEnd: number): ReceivedHeaders | undefined {
    const { flags, streamId } = this.#reader;
    requireStream(streamId);
    let start = frameStart + frameHeadBytes;
    let end = frameEnd;
    if ((flags & Flag.Padded) !== 0) {
      end -= start < frameEnd ? (buffer[start] as number) : 0;
      start += 1;
    }
    let dependsOnItself = false;
    if ((flags & Flag.Priority) !== 0) {
      dependsOnItself = start + 5 <= end && dependencyAt(buffer, start) === streamId;
      start += 5;
    }
    if (start > end) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "HEADERS is shorter than its padding and priority");
    }
    const endStream = (flags & Flag.EndStream) !== 0;
    if ((flags & Flag.EndHeaders) === 0) {
      this.#assembly = new HeaderAssembly({ streamId, endStream, dependsOnItself }, buffer.subarray(start, end));
      return undefined;
    }
    const list = this.#headers.read(buffer, start, end);
    const isWholeFrame = (flags & (Flag.Padded | Flag.Priority)) === 0 && this.#headers.isVerbatim;
    const frame = isWholeFrame ? { buffer, start: frameStart, end } : undefined;
    return { streamId, endStream, list, frame, dependsOnItself };
  }

  /**
   * Takes the frame that follows a block which is not complete.
   *
   * @returns The block, if it is complete now.
   * @throws ConnectionFault when it is no continuation of the block, or the block is malformed or too large.
   */
  continue(buffer: Buffer, start: number, end: number): ReceivedHeaders | undefined {
    const assembly = this.#assembly;
    const { type, streamId, flags } = this.#reader;
    if (assembly === undefined || type !== FrameType.Continuation || streamId !== assembly.head.streamId) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "a header block is interrupted");
    }
    assembly.add(buffer.subarray(start, end));
    if ((flags & Flag.EndHeaders) === 0) {
      return undefined;
    }
    this.#assembly = undefined;
    const block = assembly.join();
    const list = this.#headers.read(block, 0, block.length);
    return { ...assembly.head, list, frame: undefined };
  }
}
