import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { UnaryResponse } from "@connectrpc/connect";
import { ErrorKind, type FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { callHeader, readCallId, writeCallId } from "../call-id.ts";
import { codeOfSuccess } from "../errors.ts";
import type { ClientSession } from "../http2/client-session.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import type { SessionHolder } from "../session-holder.ts";
import { type CallOver, ClientCall } from "./client-call.ts";
import { type ClientCallOptions, findField, watchCall } from "./client-request.ts";
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
      new Exchange(method, resolve).begin(session, told, framed);
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
    const { loss, code } = outcome.end;
    const isLost = loss === "perhaps-handled";
    const mayRepeat = loss === "untouched" || (isLost && canRepeat(method, options.keepsCalls, session));
    if (!mayRepeat || losses === lossesMax) {
      watcher?.end(code, beganMs);
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
  /** With what the other side knows the call by. */
  | { readonly kind: "failed"; readonly end: CallOver; readonly error: FlotillaError; readonly callId: string };

/** Whether a call that was lost may be made again: it changes nothing, or the process that had it is dead and the next one is told which call it is. */
function canRepeat({ idempotency }: DescMethodUnary, keepsCalls: boolean | undefined, session: ClientSession): boolean {
  return (
    idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS ||
    (idempotency === MethodOptions_IdempotencyLevel.IDEMPOTENT && keepsCalls === true && session.fault === undefined)
  );
}

/** One try. */
class Exchange extends ClientCall {
  readonly #resolve: (outcome: Outcome) => void;
  #assembler: MessageAssembler | undefined;
  #message: Uint8Array | undefined;
  #fault: unknown;

  constructor(method: DescMethodUnary, resolve: (outcome: Outcome) => void) {
    super(method);
    this.#resolve = resolve;
  }

  begin(session: ClientSession, options: ClientCallOptions, framed: Buffer): void {
    this.open(session, options).endWith(framed);
    this.watch(options);
  }

  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    const stream = this.stream as EndpointStream;
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

  protected findFault(): FlotillaError | undefined {
    if (this.#fault !== undefined) {
      return wrapFailure(this.#fault, `the response of ${this.method.name}`);
    }
    return this.#message === undefined
      ? failure(ErrorKind.Internal, `the response of ${this.method.name} is truncated`)
      : undefined;
  }

  protected over(end: CallOver): void {
    const { error } = end;
    this.#resolve(
      error === undefined
        ? { kind: "answered", message: this.#message as Uint8Array }
        : { kind: "failed", end, error, callId: this.stream?.callId ?? "" },
    );
  }
}
