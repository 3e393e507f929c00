import type { Code } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import { type CallOrigin, callHeader, idOfStream, writeCallId } from "#wire/call-id.ts";
import { ByteQueue } from "#wire/http2/byte-queue.ts";
import { type HeaderBytes, wholeBuffer } from "#wire/http2/data-flow.ts";
import type { FrameWriter } from "#wire/http2/frame-writer.ts";
import { encodeHeaderBlock } from "#wire/http2/header-encoder.ts";
import type { HeaderList } from "#wire/http2/header-list.ts";
import type { CarriedStream } from "#wire/http2/stream-connection.ts";
import type { CallUnderWay, CallWatcher } from "#wire/observe.ts";
import type { AuditedCall } from "./access.ts";
import { encodeTrailers, Refusal } from "./answer.ts";
import { Direction } from "./flow-control.ts";
import { harmlessMs, keptRequestBytesMax, resendsMax, resumedWaitingBytesMax } from "./limits.ts";
import { Resumption } from "./resumption.ts";
import type { RelayMethod } from "./route.ts";

/** How many bytes of requests a client connection may still keep. */
export interface KeepBudget {
  leftBytes: number;
}

/** The connection to a process that has taken a stream. */
export interface StreamCarrier {
  readonly writer: FrameWriter;
  /** Whether the connection went wrong by itself, so that the process may live on. */
  readonly isFaulty: boolean;
  /** What its calls are known by. */
  readonly origin: CallOrigin;
  /** Sends a response that was held back; nothing happens to others. */
  openGate(stream: RelayedStream): void;
  /** Forgets a response that was held back; nothing happens to others. */
  dropGated(stream: RelayedStream): void;
  /** A stream that was given to the connection is over, or given to another one. */
  streamGone(): void;
}

/** The client connection that a stream belongs to. */
export interface StreamKeeper {
  /** Removes a stream that is over from all that knows it. */
  drop(stream: RelayedStream): void;
  /** The request of a stream without a service has ended. */
  requestEnded(stream: RelayedStream): void;
}

/** The head of a request. */
export interface StreamHead {
  readonly id: number;
  /** Path of the method. */
  readonly rpc: string;
  readonly method: RelayMethod | undefined;
  readonly contentType: string;
  /** The header block, stateless, in a buffer of its own. */
  readonly block: Buffer;
}

/**
 * One call on its way through the relay.
 *
 * A stream is held while no connection to its process takes it, then sent, and its request is kept until the first
 * response header, so that it can be sent again. It is gone when both directions have ended or one side has reset it.
 */
export class RelayedStream implements CarriedStream, CallUnderWay {
  readonly id: number;
  readonly rpc: string;
  readonly method: RelayMethod | undefined;
  readonly contentType: string;
  readonly #requestBlock: Buffer;
  /** From the client to the service. */
  readonly up: Direction;
  /** From the service to the client. */
  readonly down: Direction;
  /** The connection that has taken the stream. */
  upstream: StreamCarrier | undefined;
  /**
   * When the stream began to wait for a connection, in milliseconds of the process clock. Losing a connection soon
   * after getting it goes on with the same wait.
   */
  heldSinceMs: number | undefined;
  /** When the call came, in milliseconds of the process clock. */
  readonly beganMs: number = performance.now();
  /** Who watches the call, if somebody does. */
  watcher: CallWatcher | undefined;
  /** Looks at the request, if somebody does. It is one of those who watch. */
  audited: AuditedCall | undefined;
  /** The code that the call ended with, if one was seen. */
  endCode: Code | undefined;
  /** Whether it counts among those that waited for a process. */
  isCountedAsHeld = false;
  /** Whether the client will be told to send no more. */
  isToldToStop = false;
  /** Whether a part of the response has gone out. */
  hasResponse = false;
  /** The head of a response that is held back until the response is complete; what follows it waits in `down`. */
  gatedHead: HeaderBytes | undefined;
  /** Where the response goes on if the process dies; undefined where it can't. */
  resumption: Resumption | undefined;
  /** The service reset the stream behind its end; what waits goes out first. */
  resetBehindEnd: number | undefined;
  readonly #keeper: StreamKeeper;
  readonly #budget: KeepBudget;
  #kept: ByteQueue | undefined = new ByteQueue();
  #sentAtMs = 0;
  #quickDeaths = 0;
  /** What the call is known by, once a process may have done something with it. */
  #callId: string | undefined;

  constructor(head: StreamHead, keeper: StreamKeeper, budget: KeepBudget) {
    this.#keeper = keeper;
    this.id = head.id;
    this.rpc = head.rpc;
    this.method = head.method;
    this.contentType = head.contentType;
    this.#requestBlock = head.block;
    this.#budget = budget;
    this.up = new Direction(head.id, { passesCreditAtOnce: false });
    this.down = new Direction(head.id, { passesCreditAtOnce: true });
  }

  get isEnded(): boolean {
    return this.up.isEnded;
  }

  get receiveWindowBytes(): number {
    return this.up.receiveWindowBytes;
  }

  get sendWindowBytes(): number {
    return this.down.sendWindowBytes;
  }

  receiveData(
    chunk: Buffer,
    start: number,
    end: number,
    headStart: number,
    missingBytes: number,
    isLast: boolean,
  ): void {
    this.keep(chunk, start, end);
    this.audited?.requestBytes(chunk, start, end);
    this.watcher?.requestMessage(end - start);
    this.up.pass(chunk, start, end, headStart, missingBytes, isLast);
    if (isLast && this.upstream === undefined) {
      this.#keeper.requestEnded(this);
    }
  }

  /** Whether nobody looks at the pieces of the request any more. */
  get takesRuns(): boolean {
    return this.#kept === undefined && this.audited === undefined;
  }

  receiveTrailers(list: HeaderList): void {
    this.releaseKept();
    this.up.passTrailers(wholeBuffer(list.block));
    if (this.upstream === undefined) {
      this.#keeper.requestEnded(this);
    }
  }

  abort(code: number): void {
    this.upstream?.writer.resetStream(this.id, code);
    this.#keeper.drop(this);
  }

  /** The links that carry the streams of a client end with its connection. */
  connectionLost(): void {}

  widen(incrementBytes: number): void {
    this.down.widen(incrementBytes);
  }

  changeInitialWindow(differenceBytes: number): void {
    if (differenceBytes < 0) {
      // The service may not be able to complete a response that is held back.
      this.upstream?.openGate(this);
    }
    if (this.upstream !== undefined) {
      this.down.receiveWindowBytes += differenceBytes;
    }
    this.down.widen(differenceBytes);
  }

  /** Keeps a part of the request body, if all of it can be kept. */
  keep(chunk: Buffer, start: number, end: number): void {
    const kept = this.#kept;
    if (kept === undefined) {
      return;
    }
    const sizeBytes = end - start;
    if (kept.sizeBytes + sizeBytes > keptRequestBytesMax || sizeBytes > this.#budget.leftBytes) {
      this.releaseKept();
      return;
    }
    this.#budget.leftBytes -= sizeBytes;
    kept.pushCopy(chunk, start, end);
  }

  /** Gives up the possibility to send the request again. */
  releaseKept(): void {
    if (this.#kept !== undefined) {
      this.#budget.leftBytes += this.#kept.sizeBytes;
      this.#kept = undefined;
    }
  }

  /** The stream has been given to a connection. */
  sentTo(upstream: StreamCarrier, nowMs: number): void {
    this.upstream = upstream;
    this.#sentAtMs = nowMs;
  }

  /** The process says that what it sends next begins at a point of its own. It can, since the call has no side effects. */
  passPoint(point: string): void {
    if (this.#isHarmless && this.#kept !== undefined) {
      this.resumption ??= new Resumption(this.down);
      this.resumption.pass(point);
    }
  }

  /** The process can't go on with the response of the one before it, whose head the client has. */
  passGivingUp(): void {
    const reason = `process ${this.method?.upstream ?? ""} can't go on with what the one before it has answered`;
    const { message } = failure(ErrorKind.Unavailable, reason);
    this.endCode = Number(Refusal.Unavailable.grpcStatus);
    this.down.passTrailers(wholeBuffer(encodeTrailers(Refusal.Unavailable, message)));
  }

  /** The header block of the request as it goes out now: one that is sent again, or late, says which call it is. */
  requestBlock(): Buffer {
    const isLate = this.isCountedAsHeld && this.#isHarmless;
    const id = this.#callId ?? (isLate ? this.#idHere() : undefined);
    if (id === undefined) {
      return this.#requestBlock;
    }
    const resumeAt = this.resumption?.point || undefined;
    const told = writeCallId({ id, repeatedAfterMs: this.#sentAtMs - this.beganMs, resumeAt });
    return Buffer.concat([this.#requestBlock, encodeHeaderBlock([[callHeader, told]])]);
  }

  /**
   * Takes the stream back from a connection that is lost, so that it can be given to another one.
   *
   * @param isUntouched - Whether the service certainly did nothing with the request.
   * @returns Whether the stream may be sent again; if not, it is as it was.
   */
  takeBack(isUntouched: boolean, nowMs: number): boolean {
    const { method, upstream } = this;
    const mayLiveOn = method?.changing === true && upstream?.isFaulty === true;
    const mayRepeat = isUntouched || (method?.repeatable === true && !mayLiveOn);
    const canGoOn = !this.hasResponse || this.resumption !== undefined;
    if (!canGoOn || this.#kept === undefined || !mayRepeat || this.down.waitingBytes > resumedWaitingBytesMax) {
      return false;
    }
    if (nowMs - this.#sentAtMs >= harmlessMs || this.resumption?.isInHand === true) {
      this.#quickDeaths = 0;
      this.heldSinceMs = undefined;
    }
    if (!isUntouched && ++this.#quickDeaths > resendsMax) {
      return false;
    }
    if (!isUntouched) {
      this.#callId ??= this.#idHere();
    }
    this.upstream = undefined;
    this.down.orphan();
    this.resumption?.restart(this.hasResponse);
    this.up.rewind(this.#kept.clone());
    return true;
  }

  /** Whether the answer is a stream that may be asked for again. */
  get #isHarmless(): boolean {
    const { method } = this;
    return method?.streaming === true && method.repeatable && method.changing !== true;
  }

  /** What the process that has the stream now knows the call by. */
  #idHere(): string | undefined {
    const { upstream } = this;
    return upstream && idOfStream(upstream.origin.name, this.id + upstream.writer.idShift);
  }
}
