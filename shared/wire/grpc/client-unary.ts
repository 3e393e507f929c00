import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, type UnaryResponse } from "@connectrpc/connect";
import { ErrorKind, type FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { callHeader, readCallId, writeCallId } from "../call-id.ts";
import { codeOf, codeOfSuccess } from "../errors.ts";
import type { ClientSession } from "../http2/client-session.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import type { HeaderList } from "../http2/header-list.ts";
import { ErrorCode } from "../http2/protocol.ts";
import type { StreamEvents } from "../http2/stream-events.ts";
import { abortReason, type SessionHolder } from "../session-holder.ts";
import {
  type ClientCallOptions,
  encodeRequestHead,
  findField,
  pathOf,
  readEnd,
  watchCall,
  watchEnd,
} from "./client-request.ts";
import { frameMessage, messagePrefixBytes } from "./grpc-wire.ts";
import { MessageAssembler } from "./message-assembler.ts";

/** How often one call is sent again because the process died under it. */
const lossesMax = 3;

/** Makes a unary call. @throws {@link FlotillaError} what the other side answered, or why there is no answer. */
export async function callUnary<I extends DescMessage, O extends DescMessage>(
  sessions: SessionHolder,
  method: DescMethodUnary<I, O>,
  options: ClientCallOptions,
  input: MessageInitShape<I>,
): Promise<UnaryResponse<I, O>> {
  const framed = frameMessage(toBinary(method.input, create(method.input, input)));
  const beganMs = performance.now();
  const watcher = watchCall(method, options);
  let told = watcher?.fields === undefined ? options : { ...options, fields: watcher.fields };
  let id: string | undefined;
  watcher?.requestMessage(framed.length - messagePrefixBytes);
  for (let losses = 0; ; losses++) {
    const session = sessions.find() ?? (await sessions.get(options.signal));
    const outcome = await new Promise<Outcome>((resolve) => {
      new Exchange(method, told, resolve).begin(session, framed);
    });
    if (outcome.kind === "answered") {
      watcher?.responseMessage(outcome.message.byteLength);
      watcher?.end(codeOfSuccess, beganMs);
      return {
        stream: false,
        service: method.parent,
        method,
        // Made when asked for, since the first one loads the whole of fetch.
        get header() {
          return new Headers();
        },
        get trailer() {
          return new Headers();
        },
        message: fromBinary(method.output, outcome.message),
      };
    }
    const isLost = outcome.kind === "lost";
    const mayRepeat = outcome.kind === "untouched" || (isLost && canRepeat(method, options.keepsCalls, session));
    if (!mayRepeat || losses === lossesMax) {
      watcher?.end(outcome.code, beganMs);
      throw outcome.error;
    }
    if (isLost) {
      id ??= findField(options.header, callHeader) ?? outcome.callId;
      told = { ...told, call: writeCallId({ ...readCallId(id), repeatedAfterMs: performance.now() - beganMs }) };
    }
  }
}

type Outcome =
  | { readonly kind: "answered"; readonly message: Uint8Array }
  /** `failed`: the service answered with an error, or the caller gave up. `untouched`: the service certainly did nothing with the call. */
  | { readonly kind: "failed" | "untouched"; readonly error: Error; readonly code: Code | undefined }
  /** The connection broke before the answer was complete. */
  | { readonly kind: "lost"; readonly error: Error; readonly code: Code; readonly callId: string };

/** Whether a call that was lost may be made again: it changes nothing, or the process that had it is dead and the next one is told which call it is. */
function canRepeat({ idempotency }: DescMethodUnary, keepsCalls: boolean | undefined, session: ClientSession): boolean {
  return (
    idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS ||
    (idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENT && keepsCalls === true && session.fault === undefined)
  );
}

/** One try. */
class Exchange implements StreamEvents {
  readonly #method: DescMethodUnary;
  readonly #options: ClientCallOptions;
  readonly #resolve: (outcome: Outcome) => void;
  #session: ClientSession | undefined;
  #stream: EndpointStream | undefined;
  #assembler: MessageAssembler | undefined;
  #message: Uint8Array | undefined;
  #fault: unknown;
  #endWatch: (() => void) | undefined;
  #isOver = false;

  constructor(method: DescMethodUnary, options: ClientCallOptions, resolve: (outcome: Outcome) => void) {
    this.#method = method;
    this.#options = options;
    this.#resolve = resolve;
  }

  begin(session: ClientSession, framed: Buffer): void {
    const { signal, timeoutMs } = this.#options;
    this.#session = session;
    this.#stream = session.open(encodeRequestHead(this.#method, this.#options), this);
    this.#stream.endWith(framed);
    if (signal !== undefined || timeoutMs !== undefined) {
      this.#endWatch = watchEnd(this.#options, (reason) => this.#giveUp(reason));
    }
    if (signal?.aborted === true) {
      this.#giveUp(abortReason(signal));
    }
  }

  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    const stream = this.#stream as EndpointStream;
    try {
      this.#assembler ??= new MessageAssembler(stream);
      for (const message of this.#assembler.push(chunk, start, end)) {
        this.#fault ??= this.#message === undefined ? undefined : new Error("more than one message");
        this.#message = message;
      }
    } catch (error) {
      this.#fault ??= error;
    }
    stream.consume(end - start);
    if (isLast) {
      this.onEnd(undefined);
    }
  }

  onEnd(trailers: HeaderList | undefined): void {
    const rpc = pathOf(this.#method);
    const { code, error } = readEnd(rpc, trailers);
    if (error !== undefined) {
      this.#settle({ kind: "failed", error, code });
    } else if (this.#fault !== undefined) {
      const fault = wrapFailure(this.#fault, `the response of ${this.#method.name}`);
      this.#settle({ kind: "failed", error: fault, code: codeOf(fault.kind) });
    } else if (this.#message === undefined) {
      const missing = failure(ErrorKind.Internal, `the response of ${this.#method.name} is truncated`);
      this.#settle({ kind: "failed", error: missing, code: Code.Internal });
    } else {
      this.#settle({ kind: "answered", message: this.#message });
    }
    // What the service does not want to read need not be sent.
    this.#stream?.reset(ErrorCode.NoError);
  }

  onAbort(code: number | undefined): void {
    const rpc = pathOf(this.#method);
    if (code === undefined || code === ErrorCode.RefusedStream) {
      const isUntouched = code === ErrorCode.RefusedStream || this.#session?.hasAnswered === false;
      const error = failure(ErrorKind.Unavailable, `connection lost during ${rpc}`, { cause: this.#session?.fault });
      const lost = { error, code: Code.Unavailable };
      this.#settle(
        isUntouched ? { ...lost, kind: "untouched" } : { ...lost, kind: "lost", callId: this.#stream?.callId ?? "" },
      );
    } else {
      const error = failure(ErrorKind.Internal, `${rpc} was reset with code ${code}`);
      this.#settle({ kind: "failed", error, code: Code.Internal });
    }
  }

  #giveUp(reason: FlotillaError): void {
    this.#settle({ kind: "failed", error: reason, code: codeOf(reason.kind) });
    this.#stream?.reset(ErrorCode.Cancel);
  }

  #settle(outcome: Outcome): void {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#endWatch?.();
      this.#resolve(outcome);
    }
  }
}
