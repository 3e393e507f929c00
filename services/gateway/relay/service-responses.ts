import type { Duplex } from "node:stream";
import { type CallOrigin, nextOrigin } from "#wire/call-id.ts";
import { Http2Connection } from "#wire/http2/connection.ts";
import { wholeBuffer } from "#wire/http2/data-flow.ts";
import type { ReceivedHeaders } from "#wire/http2/header-intake.ts";
import { connectionWindowBytes } from "#wire/http2/limits.ts";
import { ErrorCode, FrameType, frameHeadBytes, windowBytesMax } from "#wire/http2/protocol.ts";
import type { WriterGroup } from "#wire/http2/writer-group.ts";
import { isWholeBehind } from "./answer-ahead.ts";
import { endCodeOf } from "./end-code.ts";
import { gatedResponseBytesMax } from "./limits.ts";
import { ResponseGate } from "./response-gate.ts";
import type { RelayedStream, StreamCarrier } from "./stream.ts";
import type { StreamOwner } from "./stream-owner.ts";

/** What a service sends on the streams of a client. */
export abstract class ServiceResponses extends Http2Connection implements StreamCarrier {
  isFaulty = false;
  readonly origin: CallOrigin = nextOrigin();
  #client: StreamOwner;
  #gate: ResponseGate;

  constructor(socket: Duplex, group: WriterGroup, client: StreamOwner) {
    super(socket, group, { windowBytes: connectionWindowBytes, headerTableBytes: 0 });
    this.#client = client;
    this.#gate = new ResponseGate(client);
  }

  abstract streamGone(): void;

  protected get client(): StreamOwner {
    return this.#client;
  }

  /** Has what comes from now on go to another client. Nothing of the one before may be under way. */
  protected answerTo(client: StreamOwner): void {
    this.#client = client;
    this.#gate = new ResponseGate(client);
  }

  openGate(stream: RelayedStream): void {
    this.#gate.open(stream);
  }

  dropGated(stream: RelayedStream): void {
    this.#gate.drop(stream);
  }

  override onFrame(buffer: Buffer, frameStart: number, frameEnd: number): void {
    if (this.reader.type === FrameType.ResumePoint) {
      this.#find(this.reader.streamId)?.passPoint(buffer.toString("latin1", frameStart + frameHeadBytes, frameEnd));
    } else {
      super.onFrame(buffer, frameStart, frameEnd);
    }
  }

  protected onHeaders(headers: ReceivedHeaders): void {
    const stream = this.#find(headers.streamId);
    if (stream === undefined || stream.down.isEnded) {
      return;
    }
    if (stream.resumption?.takesHead() === true) {
      if (headers.endStream) {
        stream.passGivingUp();
      }
      return;
    }
    if (stream.watcher !== undefined) {
      stream.endCode = endCodeOf(headers, stream.contentType);
    }
    if (headers.list.isTooLarge) {
      this.writer.resetStream(stream.id, ErrorCode.EnhanceYourCalm);
      this.#client.resetByService(stream, ErrorCode.InternalError);
      return;
    }
    const { down } = stream;
    if (!headers.endStream && !isWholeBehind(headers.frame) && this.#gate.hold(stream, headers.list)) {
      return;
    }
    if (headers.endStream && (stream.gatedHead !== undefined || down.waitingBytes > 0)) {
      down.passTrailers(wholeBuffer(headers.list.block));
      this.openGate(stream);
      return;
    }
    this.openGate(stream);
    stream.hasResponse = true;
    if (stream.resumption === undefined) {
      stream.releaseKept();
    }
    this.forwardHeaders(this.#client, headers);
    if (headers.endStream) {
      down.isEnded = true;
      down.isEndSent = true;
      this.#client.endSent(stream.id);
    }
  }

  protected onData(
    chunk: Buffer,
    start: number,
    end: number,
    headStart: number,
    missingBytes: number,
    isLast: boolean,
  ): void {
    const stream = this.#find(this.reader.streamId);
    if (stream === undefined || stream.down.isEnded) {
      this.returnCredit(end - start, undefined);
    } else {
      const { down } = stream;
      const knownBytes = stream.resumption?.takeBytes(end - start) ?? 0;
      if (knownBytes > 0 && start + knownBytes === end && !isLast) {
        return;
      }
      stream.watcher?.responseMessage(end - start - knownBytes);
      down.pass(chunk, start + knownBytes, end, knownBytes > 0 ? -1 : headStart, missingBytes, isLast);
      if (isLast || down.waitingBytes > gatedResponseBytesMax || down.receiveWindowBytes <= 0) {
        this.openGate(stream);
      }
    }
  }

  onDataRun(chunk: Buffer, start: number, end: number, payloadBytes: number): boolean {
    const stream = this.#find(this.reader.streamId);
    if (stream === undefined || stream.resumption !== undefined || !stream.down.canPass(payloadBytes)) {
      return false;
    }
    this.admitData(payloadBytes);
    stream.watcher?.responseMessage(payloadBytes);
    stream.down.passRun(chunk, start, end, payloadBytes);
    return true;
  }

  protected onPadding(streamId: number, paddingBytes: number): void {
    if (this.#find(streamId) !== undefined) {
      this.writer.windowUpdate(streamId, paddingBytes);
    }
  }

  protected onReset(streamId: number, code: number): void {
    const stream = this.#find(streamId);
    if (stream !== undefined) {
      this.#client.resetByService(stream, code);
    }
  }

  protected onStreamWindow(streamId: number, incrementBytes: number): void {
    const stream = this.#find(streamId);
    if (stream === undefined) {
      return;
    }
    if (incrementBytes === 0 || stream.up.sendWindowBytes + incrementBytes > windowBytesMax) {
      this.writer.resetStream(streamId, ErrorCode.FlowControlError);
      this.#client.resetByService(stream, ErrorCode.InternalError);
      return;
    }
    stream.up.widen(incrementBytes);
  }

  protected onInitialWindow(differenceBytes: number): void {
    for (const stream of this.#client.relayedStreams()) {
      if (stream.upstream === this) {
        stream.up.widen(differenceBytes);
      }
    }
  }

  protected onStreamFault(streamId: number, code: number): void {
    const stream = this.#find(streamId);
    if (stream !== undefined) {
      this.writer.resetStream(streamId, code);
      this.#client.resetByService(stream, ErrorCode.InternalError);
    }
  }

  #find(streamId: number): RelayedStream | undefined {
    const stream = this.#client.findStream(streamId);
    return stream?.upstream === this ? stream : undefined;
  }
}
