import type { DescMethod } from "@bufbuild/protobuf";
import type { Code } from "@connectrpc/connect";
import { ErrorKind, type FlotillaError, failure } from "#base/errors.ts";
import { codeOf } from "../errors.ts";
import type { ClientSession } from "../http2/client-session.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import type { HeaderList } from "../http2/header-list.ts";
import { ErrorCode } from "../http2/protocol.ts";
import type { StreamEvents } from "../http2/stream-events.ts";
import { abortReason } from "../session-holder.ts";
import { type ClientCallOptions, encodeRequestHead, pathOf, readEnd, watchEnd } from "./client-request.ts";

/** How a call ended for whoever made it. */
export interface CallOver {
  /** The code that it ended with; undefined where there is none. */
  readonly code: Code | undefined;
  /** What went wrong, if something did. */
  readonly error: FlotillaError | undefined;
  /** That the connection is why: the other side may have done something with the call, or certainly has not. */
  readonly loss?: "perhaps-handled" | "untouched";
}

/** The client's side of one gRPC call on its stream: how it begins, and every way in which it ends, which it does once. */
export abstract class ClientCall implements StreamEvents {
  protected readonly method: DescMethod;
  protected stream: EndpointStream | undefined;
  #session: ClientSession | undefined;
  #endWatch: (() => void) | undefined;
  #isOver = false;

  constructor(method: DescMethod) {
    this.method = method;
  }

  /** Whether it has ended, so that nothing that comes matters. */
  protected get isOver(): boolean {
    return this.#isOver;
  }

  /** Opens the stream; the request is to follow. */
  protected open(session: ClientSession, options: ClientCallOptions): EndpointStream {
    this.#session = session;
    this.stream = session.open(encodeRequestHead(this.method, options), this);
    return this.stream;
  }

  /** Ends the call when its caller gives it up, or its time is over. */
  protected watch(options: ClientCallOptions): void {
    const { signal, timeoutMs } = options;
    if (signal !== undefined || timeoutMs !== undefined) {
      this.#endWatch = watchEnd(options, (reason) => this.giveUp(reason));
    }
    if (signal?.aborted === true) {
      this.giveUp(abortReason(signal));
    }
  }

  abstract onData(chunk: Buffer, start: number, end: number, isLast: boolean): void;

  onEnd(trailers: HeaderList | undefined): void {
    const told = readEnd(pathOf(this.method), trailers);
    const fault = told.error === undefined ? this.findFault() : undefined;
    this.#finish(fault === undefined ? told : { code: codeOf(fault.kind), error: fault });
    // What the service does not want to read need not be sent.
    this.stream?.reset(ErrorCode.NoError);
  }

  onAbort(code: number | undefined): void {
    const rpc = pathOf(this.method);
    if (code !== undefined && code !== ErrorCode.RefusedStream) {
      this.#fail(failure(ErrorKind.Internal, `${rpc} was reset with code ${code}`));
      return;
    }
    const isUntouched = code === ErrorCode.RefusedStream || this.#session?.hasAnswered === false;
    const error = failure(ErrorKind.Unavailable, `connection lost during ${rpc}`, { cause: this.#session?.fault });
    this.#fail(error, isUntouched ? "untouched" : "perhaps-handled");
  }

  /** Ends the call from here. */
  giveUp(reason: FlotillaError): void {
    this.#fail(reason);
    this.stream?.reset(ErrorCode.Cancel);
  }

  /** What is wrong with the answer to a call that went well, now that it has ended. */
  protected abstract findFault(): FlotillaError | undefined;
  /** The call is over. */
  protected abstract over(end: CallOver): void;

  #fail(error: FlotillaError, loss?: CallOver["loss"]): void {
    this.#finish({ code: codeOf(error.kind), error, ...(loss === undefined ? {} : { loss }) });
  }

  #finish(end: CallOver): void {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#endWatch?.();
      this.over(end);
    }
  }
}
