import type { Duplex } from "node:stream";
import { writeFrameHead, writeStreamId } from "./frame-head.ts";
import { controlBacklogBytesMax, frameBytesMax, slowSocketBytes } from "./limits.ts";
import { OwedPing } from "./owed-ping.ts";
import { Flag, FrameType, frameHeadBytes } from "./protocol.ts";
import type { QueuedPiece } from "./queued-piece.ts";
import { WriteHolds } from "./write-holds.ts";
import type { WriterSchedule } from "./writer-schedule.ts";

/** Pieces up to this size are copied together, since each piece of its own costs more than the copy. */
const copiedBytesMax = 1024;
const slabBytes = 16 * 1024;
/** The first slab: many connections never need more. */
const firstSlabBytes = 512;
/** Value of the first octet of a header block that sets the size of the table to 0. @source RFC 7541 section 6.3 */
const tableSizeUpdateToZero = 0x20;

/**
 * Collects the frames that go to one socket and writes them in as few and as large pieces as it can: what follows
 * itself in the same buffer is one piece, small pieces are copied together, nothing else is copied.
 */
export class FrameWriter {
  readonly #socket: Duplex;
  /** Pieces that are complete, before the open piece. */
  readonly #pieces: Buffer[] = [];
  /** The open piece, which grows as long as what follows stands right behind it. */
  #openBuffer: Buffer | undefined;
  #openStart = 0;
  #openEnd = 0;
  /** Where small frames are built; its bytes are written once and never reused. */
  #slab: Buffer = Buffer.alloc(0);
  #slabUsed = 0;
  #isCollecting = false;
  readonly #holds = new WriteHolds();
  /** Bytes written of frames other than DATA since the socket had nothing unwritten. */
  #controlBytes = 0;
  readonly #owedPing = new OwedPing((opaque) => this.ping(opaque, 0, Flag.Ack));
  /** Whether so much is unwritten that senders should get no more credit until it drains. */
  isSlow = false;
  /** How much higher every stream id is on the wire. */
  idShift = 0;
  /** Has this and other writers write at the same time. */
  group: WriterSchedule<FrameWriter>;

  constructor(socket: Duplex, group: WriterSchedule<FrameWriter>) {
    this.#socket = socket;
    this.group = group;
  }

  /** Whether more is unwritten than windows account for. */
  get isOverloaded(): boolean {
    return this.isSlow && this.#controlBytes > controlBacklogBytesMax;
  }

  /** Nothing will be written any more. */
  end(): void {
    this.#owedPing.forget();
    this.drained();
  }

  /** Everything is written. */
  drained(): void {
    this.isSlow = false;
    this.#controlBytes = 0;
    this.group.recover(this);
  }

  /** Calls back when all that has been collected so far is with the kernel, or will never be. It must not have been flushed. */
  afterWrite(tell: () => void): void {
    this.#holds.wait(tell);
  }

  /** Forwards bytes of DATA frames; the caller leaves them unchanged from now on. */
  appendData(buffer: Buffer, start: number, end: number): void {
    this.#append(buffer, start, end);
  }

  /** Forwards bytes of other frames; the caller leaves them unchanged from now on. */
  appendControl(buffer: Buffer, start: number, end: number): void {
    this.#controlBytes += end - start;
    this.#append(buffer, start, end);
  }

  /** Writes a stream id over that of a frame which is to be forwarded as it lies. */
  placeStreamId(buffer: Buffer, frameStart: number, streamId: number): void {
    writeStreamId(buffer, frameStart, streamId + this.idShift);
  }

  /** Writes a stream id over those of frames that lie behind each other. */
  placeStreamIds(buffer: Buffer, start: number, end: number, streamId: number): void {
    for (let at = start; at < end; at += frameHeadBytes + buffer.readUIntBE(at, 3)) {
      this.placeStreamId(buffer, at, streamId);
    }
  }

  dataHead(streamId: number, lengthBytes: number, isLast: boolean): void {
    const at = this.#reserve(frameHeadBytes);
    this.#writeHead(this.#slab, at, lengthBytes, FrameType.Data, isLast ? Flag.EndStream : 0, streamId);
  }

  /** Sends bytes whose frame's head has room before them. */
  spacedData(streamId: number, { memory, start, end }: QueuedPiece, isLast: boolean): void {
    const headStart = start - frameHeadBytes;
    this.#writeHead(memory, headStart, end - start, FrameType.Data, isLast ? Flag.EndStream : 0, streamId);
    this.#append(memory, headStart, end);
  }

  /**
   * Writes a header block as HEADERS and, where it is larger than a frame, CONTINUATION.
   *
   * @param resetsTable - Whether the block must begin with the update that sets the decoder's table to 0.
   */
  headers(
    streamId: number,
    block: { readonly buffer: Buffer; readonly start: number; readonly end: number },
    flags: { readonly endStream: boolean; readonly resetsTable: boolean },
  ): void {
    let at = block.start;
    let type: number = FrameType.Headers;
    let frameFlags: number = flags.endStream ? Flag.EndStream : 0;
    let prefixBytes = flags.resetsTable ? 1 : 0;
    do {
      const pieceEnd = Math.min(block.end, at + frameBytesMax - prefixBytes);
      if (pieceEnd === block.end) {
        frameFlags |= Flag.EndHeaders;
      }
      const headStart = this.#reserve(frameHeadBytes + prefixBytes);
      this.#writeHead(this.#slab, headStart, prefixBytes + pieceEnd - at, type, frameFlags, streamId);
      if (prefixBytes > 0) {
        this.#slab[headStart + frameHeadBytes] = tableSizeUpdateToZero;
      }
      this.appendControl(block.buffer, at, pieceEnd);
      at = pieceEnd;
      type = FrameType.Continuation;
      frameFlags = 0;
      prefixBytes = 0;
    } while (at < block.end);
  }

  windowUpdate(streamId: number, incrementBytes: number): void {
    this.#writeWordFrame(FrameType.WindowUpdate, streamId, incrementBytes);
  }

  resetStream(streamId: number, code: number): void {
    this.#writeWordFrame(FrameType.ResetStream, streamId, code);
  }

  /** Tells, before what follows on a stream, where that begins. @param point - ASCII. */
  resumePoint(streamId: number, point: string): void {
    const at = this.#reserve(frameHeadBytes + point.length);
    this.#writeHead(this.#slab, at, point.length, FrameType.ResumePoint, 0, streamId);
    this.#slab.write(point, at + frameHeadBytes, "latin1");
  }

  /** @param settings - Pairs of identifier and value. */
  settings(settings: readonly (readonly [id: number, value: number])[]): void {
    const at = this.#reserve(frameHeadBytes + settings.length * 6);
    this.#writeHead(this.#slab, at, settings.length * 6, FrameType.Settings, 0, 0);
    let entryAt = at + frameHeadBytes;
    for (const [id, value] of settings) {
      this.#slab.writeUInt16BE(id, entryAt);
      this.#slab.writeUInt32BE(value, entryAt + 2);
      entryAt += 6;
    }
  }

  settingsAck(): void {
    // The slab may be another one when there is room.
    const at = this.#reserve(frameHeadBytes);
    this.#writeHead(this.#slab, at, 0, FrameType.Settings, Flag.Ack, 0);
  }

  /** Answers a PING soon. @param opaque - Eight octets from `start`. */
  pingAck(opaque: Buffer, start: number): void {
    this.#owedPing.owe(opaque, start);
  }

  /** @param opaque - Eight octets from `start`. */
  ping(opaque: Buffer, start: number, flags: number): void {
    const at = this.#reserve(frameHeadBytes + 8);
    this.#writeHead(this.#slab, at, 8, FrameType.Ping, flags, 0);
    opaque.copy(this.#slab, at + frameHeadBytes, start, start + 8);
  }

  goaway(lastStreamId: number, code: number, reason: string): void {
    const reasonBytes = Buffer.byteLength(reason);
    const at = this.#reserve(frameHeadBytes + 8 + reasonBytes);
    this.#writeHead(this.#slab, at, 8 + reasonBytes, FrameType.Goaway, 0, 0);
    this.#slab.writeUInt32BE(lastStreamId, at + frameHeadBytes);
    this.#slab.writeUInt32BE(code, at + frameHeadBytes + 4);
    this.#slab.write(reason, at + frameHeadBytes + 8);
  }

  /** Writes what was collected to the socket. */
  flush(): void {
    this.#owedPing.pay();
    this.#isCollecting = false;
    this.#closePiece();
    const socket = this.#socket;
    const pieces = this.#pieces;
    const written = this.#holds.take();
    const last = pieces.pop();
    if (last === undefined || !socket.writable) {
      written?.();
    } else if (pieces.length === 0) {
      socket.write(last, written);
    } else {
      socket.cork();
      for (const piece of pieces) {
        socket.write(piece);
      }
      socket.write(last, written);
      socket.uncork();
    }
    pieces.length = 0;
    const unwrittenBytes = socket.writableLength;
    this.isSlow = unwrittenBytes >= slowSocketBytes;
    if (unwrittenBytes === 0) {
      // The kernel has it all, so that the next read can have the memory; callbacks only come later.
      this.#controlBytes = 0;
      written?.();
    }
  }

  #append(buffer: Buffer, start: number, end: number): void {
    if (buffer === this.#openBuffer && start === this.#openEnd) {
      this.#openEnd = end;
      return;
    }
    const sizeBytes = end - start;
    if (sizeBytes <= copiedBytesMax) {
      const at = this.#reserveUncounted(sizeBytes);
      buffer.copy(this.#slab, at, start, end);
      return;
    }
    const { chunk } = this.group;
    if (chunk?.bytes === buffer) {
      this.#holds.hold(chunk);
    }
    this.#open(buffer, start, end);
  }

  #writeWordFrame(type: number, streamId: number, word: number): void {
    const at = this.#reserve(frameHeadBytes + 4);
    this.#writeHead(this.#slab, at, 4, type, 0, streamId);
    this.#slab.writeUInt32BE(word, at + frameHeadBytes);
  }

  #writeHead(target: Buffer, at: number, lengthBytes: number, type: number, flags: number, streamId: number): void {
    writeFrameHead(target, at, lengthBytes, type, flags, streamId === 0 ? 0 : streamId + this.idShift);
  }

  /** Makes room in the slab at the end of what is collected; returns where. */
  #reserve(sizeBytes: number): number {
    this.#controlBytes += sizeBytes;
    return this.#reserveUncounted(sizeBytes);
  }

  #reserveUncounted(sizeBytes: number): number {
    if (this.#slabUsed + sizeBytes > this.#slab.length) {
      const isFirst = this.#slab.length === 0 && sizeBytes <= firstSlabBytes;
      this.#slab = Buffer.allocUnsafeSlow(isFirst ? firstSlabBytes : slabBytes);
      this.#slabUsed = 0;
    }
    const at = this.#slabUsed;
    this.#slabUsed += sizeBytes;
    if (this.#openBuffer === this.#slab && this.#openEnd === at) {
      this.#openEnd = this.#slabUsed;
    } else {
      this.#open(this.#slab, at, this.#slabUsed);
    }
    return at;
  }

  #open(buffer: Buffer, start: number, end: number): void {
    this.#closePiece();
    this.#openBuffer = buffer;
    this.#openStart = start;
    this.#openEnd = end;
    if (!this.#isCollecting) {
      this.#isCollecting = true;
      this.group.add(this);
    }
  }

  #closePiece(): void {
    if (this.#openBuffer !== undefined) {
      this.#pieces.push(this.#openBuffer.subarray(this.#openStart, this.#openEnd));
      this.#openBuffer = undefined;
    }
  }
}
