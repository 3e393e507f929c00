import type { Duplex } from "node:stream";
import type { Chunk } from "./chunk.ts";
import type { DataSink, DataSource, DrainWaiter, HeaderBytes, WindowWaiter } from "./data-flow.ts";
import { FrameWriter } from "./frame-writer.ts";
import { frameBytesMax } from "./limits.ts";
import { ConnectionFault, defaultWindowBytes, ErrorCode, windowBytesMax } from "./protocol.ts";
import { ReceiveWindow } from "./receive-window.ts";
import type { WriterGroup } from "./writer-group.ts";

/** Bytes that one stream may send before the next waiting stream has its turn. */
const turnBytes = 4 * frameBytesMax;

/** How a connection is opened. */
export interface ConnectionOptions {
  /** What the peer may send on all streams together before it gets credit back. */
  readonly windowBytes: number;
  /** What the peer is told of the header table, which it may use otherwise. */
  readonly headerTableBytes?: 0;
}

/** What a connection may send and lets be sent on all its streams together, and who waits for that. */
export abstract class ConnectionFlow implements DataSource, DataSink {
  readonly writer: FrameWriter;
  sendWindowBytes = defaultWindowBytes;
  isClosed = false;
  protected readonly socket: Duplex;
  protected group: WriterGroup;
  protected readonly receiveWindow: ReceiveWindow;
  /** Credit that sources get back when this socket has drained. */
  readonly #parkedCredit = new Map<DataSource, number>();
  readonly #awaitingDrain = new Set<DrainWaiter>();
  #waiting: WindowWaiter[] = [];

  protected constructor(socket: Duplex, group: WriterGroup, windowBytes: number) {
    this.socket = socket;
    this.group = group;
    this.writer = new FrameWriter(socket, group);
    this.receiveWindow = new ReceiveWindow(windowBytes);
  }

  abstract sendHeaders(streamId: number, block: HeaderBytes, endStream: boolean): void;
  abstract endSent(streamId: number): void;

  holdChunk(): Chunk | undefined {
    this.group.chunk?.hold();
    return this.group.chunk;
  }

  returnCredit(sizeBytes: number, sink: DataSink | undefined): void {
    if (sink?.writer.isSlow === true) {
      sink.parkCredit(this, sizeBytes);
      return;
    }
    const incrementBytes = this.receiveWindow.giveBack(sizeBytes);
    if (incrementBytes > 0 && !this.isClosed) {
      this.writer.windowUpdate(0, incrementBytes);
    }
  }

  parkCredit(source: DataSource, sizeBytes: number): void {
    this.#parkedCredit.set(source, (this.#parkedCredit.get(source) ?? 0) + sizeBytes);
  }

  waitForWindow(waiter: WindowWaiter): void {
    if (!waiter.isWaitingForWindow) {
      waiter.isWaitingForWindow = true;
      this.#waiting.push(waiter);
    }
  }

  /** Tells a stream when everything is written. */
  waitForDrain(waiter: DrainWaiter): void {
    this.#awaitingDrain.add(waiter);
  }

  flush(): void {
    this.group.flush();
  }

  /** Has what is written from now on leave together with what others of that group write. */
  protected joinGroup(group: WriterGroup): void {
    this.group = group;
    this.writer.group = group;
  }

  /**
   * The peer allows more on the connection.
   *
   * @throws ConnectionFault when that is more than there may be.
   */
  protected widenConnection(incrementBytes: number): void {
    this.sendWindowBytes += incrementBytes;
    if (this.sendWindowBytes > windowBytesMax) {
      throw new ConnectionFault(ErrorCode.FlowControlError, "the window of the connection is too large");
    }
    this.#flowWaiting();
  }

  /** The socket has written everything. */
  protected drained(): void {
    this.writer.drained();
    this.#returnParkedCredit();
    const waiting = [...this.#awaitingDrain];
    this.#awaitingDrain.clear();
    for (const waiter of waiting) {
      waiter.socketDrained();
    }
  }

  /** Nothing will be written any more. */
  protected endFlow(): void {
    this.writer.end();
    this.#returnParkedCredit();
  }

  #flowWaiting(): void {
    while (this.sendWindowBytes > 0 && this.#waiting.length > 0) {
      const round = this.#waiting;
      this.#waiting = [];
      for (const waiter of round) {
        waiter.isWaitingForWindow = false;
        if (this.sendWindowBytes > 0) {
          waiter.flow(turnBytes);
        } else {
          this.waitForWindow(waiter);
        }
      }
    }
  }

  #returnParkedCredit(): void {
    for (const [source, sizeBytes] of this.#parkedCredit) {
      source.returnCredit(sizeBytes, undefined);
    }
    this.#parkedCredit.clear();
  }
}
