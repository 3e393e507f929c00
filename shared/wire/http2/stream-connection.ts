import { Http2Connection } from "./connection.ts";
import type { HeaderList } from "./header-list.ts";
import { ConnectionFault, ErrorCode, windowBytesMax } from "./protocol.ts";

/** A stream, as the table of its connection sees it. */
export interface CarriedStream {
  readonly id: number;
  /** Whether the peer's END_STREAM has arrived. */
  readonly isEnded: boolean;
  /** What the peer may still send on the stream. */
  readonly receiveWindowBytes: number;
  /** What the peer allows to be sent on the stream. */
  readonly sendWindowBytes: number;
  /** Takes a piece of DATA; the parameters are those of `FrameSink.onDataPiece`. */
  receiveData(
    chunk: Buffer,
    start: number,
    end: number,
    headStart: number,
    missingBytes: number,
    isLast: boolean,
  ): void;
  /** Takes the fields that end what the peer sends. */
  receiveTrailers(list: HeaderList): void;
  /** The stream is over: the peer reset it, or broke a rule on it. Nothing can be sent any more. */
  abort(code: number): void;
  /** The peer allows more on this stream. */
  widen(incrementBytes: number): void;
  /** The connection has ended. */
  connectionLost(): void;
  /** The peer's SETTINGS changed what every stream may send. */
  changeInitialWindow(differenceBytes: number): void;
}

/** A connection with a table of its streams: what arrives on one and what its window is, whoever opened it. */
export abstract class StreamConnection<S extends CarriedStream> extends Http2Connection {
  protected readonly table: Map<number, S> = new Map<number, S>();

  /** Tells the peer that it broke a rule on a stream, and ends that. */
  protected abstract failStream(stream: S, code: number): void;
  /** DATA came on a stream that is not in the table. */
  protected abstract onDataOfClosed(streamId: number): void;

  /** Ends the connection with a fault where a stream was never opened. */
  protected requireOpened(_streamId: number): void {}

  /** Whether a piece of DATA is what was announced. */
  protected fitsBody(_streamId: number, _sizeBytes: number, _isLast: boolean): boolean {
    return true;
  }

  protected onData(
    chunk: Buffer,
    start: number,
    end: number,
    headStart: number,
    missingBytes: number,
    isLast: boolean,
  ): void {
    const { streamId } = this.reader;
    const stream = this.table.get(streamId);
    const sizeBytes = end - start;
    if (stream === undefined) {
      this.returnCredit(sizeBytes, undefined);
      this.onDataOfClosed(streamId);
    } else if (stream.isEnded || sizeBytes > stream.receiveWindowBytes) {
      this.returnCredit(sizeBytes, undefined);
      this.failStream(stream, stream.isEnded ? ErrorCode.StreamClosed : ErrorCode.FlowControlError);
    } else if (!this.fitsBody(streamId, sizeBytes, isLast)) {
      this.returnCredit(sizeBytes, undefined);
      this.failStream(stream, ErrorCode.ProtocolError);
    } else {
      stream.receiveData(chunk, start, end, headStart, missingBytes, isLast);
    }
  }

  protected onPadding(streamId: number, paddingBytes: number): void {
    if (this.table.has(streamId)) {
      this.writer.windowUpdate(streamId, paddingBytes);
    }
  }

  protected onStreamWindow(streamId: number, incrementBytes: number): void {
    this.requireOpened(streamId);
    const stream = this.table.get(streamId);
    if (incrementBytes === 0) {
      this.onStreamFault(streamId, ErrorCode.ProtocolError, "WINDOW_UPDATE of 0");
    } else if (stream === undefined) {
      return;
    } else if (stream.sendWindowBytes + incrementBytes > windowBytesMax) {
      this.failStream(stream, ErrorCode.FlowControlError);
    } else {
      stream.widen(incrementBytes);
    }
  }

  protected onInitialWindow(differenceBytes: number): void {
    for (const stream of this.table.values()) {
      if (stream.sendWindowBytes + differenceBytes > windowBytesMax) {
        throw new ConnectionFault(ErrorCode.FlowControlError, "SETTINGS make the window of a stream too large");
      }
      stream.changeInitialWindow(differenceBytes);
    }
  }

  /** Tells every stream that there is no connection any more. */
  protected loseStreams(): void {
    for (const stream of this.table.values()) {
      stream.connectionLost();
    }
    this.table.clear();
  }
}
