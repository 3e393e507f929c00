import { Code } from "@connectrpc/connect";
import type { FlotillaError } from "#base/errors.ts";
import { ErrorKind, FlotillaError as Failure } from "#base/errors.ts";
import { timerMsMax } from "#base/limits.ts";
import { type CallId, callIdOf } from "../call-id.ts";
import { codeOfSuccess, failureOf } from "../errors.ts";
import type { Call } from "../handler.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import type { HeaderList } from "../http2/header-list.ts";
import type { ServedMethod } from "../method-table.ts";
import type { CallObserver, CallUnderWay, CallWatcher } from "../observe.ts";
import { answerHead, canceled, failureTrailers, okTrailers, trailersOnly } from "./answers.ts";
import { parseGrpcTimeout } from "./grpc-wire.ts";

/** What the calls of a server have in common. */
export interface CallContext {
  readonly observer: CallObserver | undefined;
  /** Why calls that lose their connection are over, while the server stops. */
  readonly stopReason: FlotillaError | undefined;
}

/** The server's side of one gRPC call: what the handler knows of it, and how it ends. */
export abstract class ServerCall implements Call, CallUnderWay {
  protected readonly stream: EndpointStream;
  protected readonly served: ServedMethod;
  protected readonly watcher: CallWatcher | undefined;
  /** When it began, in milliseconds of the process clock. */
  readonly beganMs: number = performance.now();
  readonly #request: HeaderList;
  readonly #context: CallContext;
  /** Whether the answer has ended, or nobody is there for it. */
  protected isOver = false;
  protected hasResponded = false;
  #controller: AbortController | undefined;
  #abortReason: unknown;
  #deadline: NodeJS.Timeout | undefined;

  constructor(stream: EndpointStream, served: ServedMethod, request: HeaderList, context: CallContext) {
    this.stream = stream;
    this.served = served;
    this.#request = request;
    this.#context = context;
    this.watcher = context.observer?.start?.("server", served.path, request);
  }

  get rpc(): string {
    return this.served.path;
  }

  get call(): CallUnderWay {
    return this;
  }

  header(name: string): string | undefined {
    return this.#request.find(name);
  }

  get id(): CallId | undefined {
    return callIdOf(this.stream, this.#request);
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined) {
        this.#controller.abort(this.#abortReason);
      }
    }
    return this.#controller.signal;
  }

  onAbort(): void {
    if (!this.isOver) {
      this.#finish(Code.Canceled);
      this.abort(this.#context.stopReason ?? canceled());
    }
  }

  /** The call is over before its handler is. */
  protected abort(reason: unknown): void {
    this.#abortReason = reason;
    this.#controller?.abort(reason);
  }

  /** Ends the call when the client's time is up. */
  protected watchDeadline(): void {
    const timeoutMs = parseGrpcTimeout(this.header("grpc-timeout"));
    if (timeoutMs !== undefined && !this.isOver) {
      const passed = (): void => {
        const reason = new Failure(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded);
        this.fail(reason);
        this.abort(reason);
      };
      this.#deadline = setTimeout(passed, Math.min(timeoutMs, timerMsMax));
    }
  }

  /** Ends a call that went well. */
  protected succeed(): void {
    if (!this.isOver) {
      this.#finish(undefined);
      if (!this.hasResponded) {
        this.stream.sendHeaders(answerHead);
      }
      this.stream.endWithHeaders(okTrailers);
    }
  }

  /** Ends a call that failed. */
  protected fail(thrown: unknown): void {
    if (this.isOver) {
      return;
    }
    const error = failureOf(thrown);
    this.#context.observer?.failed?.({ rpc: this.served.path, error });
    this.#finish(error.code);
    this.stream.endWithHeaders(this.hasResponded ? failureTrailers(error) : trailersOnly(error));
  }

  #finish(code: Code | undefined): void {
    this.isOver = true;
    if (this.#deadline !== undefined) {
      clearTimeout(this.#deadline);
    }
    this.watcher?.end(code ?? codeOfSuccess, this.beganMs);
  }
}
