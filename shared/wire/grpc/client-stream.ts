import {
  type DescMessage,
  type DescMethodStreaming,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type { StreamResponse } from "@connectrpc/connect";
import { ErrorKind, type FlotillaError, failure } from "#base/errors.ts";
import { fromConnectError } from "../errors.ts";
import type { ClientSession } from "../http2/client-session.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import type { CallWatcher } from "../observe.ts";
import type { SessionHolder } from "../session-holder.ts";
import { encodeAnswer, sendMessage } from "./answers.ts";
import { type CallOver, ClientCall } from "./client-call.ts";
import { type ClientCallOptions, pathOf, watchCall } from "./client-request.ts";
import { MessageAssembler } from "./message-assembler.ts";
import { RequestQueue } from "./request-queue.ts";

/**
 * Makes a call in which one side or both stream. Resolves when the other side has begun its answer. Requests are taken from
 * the input as the other side takes them, answers are read as the caller asks for them. A request may be an {@link EncodedResponse} as well.
 *
 * @throws {@link FlotillaError} why there is no answer; the answer throws the error that ends it.
 */
export async function callStream<I extends DescMessage, O extends DescMessage>(
  sessions: SessionHolder,
  method: DescMethodStreaming<I, O>,
  options: ClientCallOptions,
  input: AsyncIterable<MessageInitShape<I>>,
): Promise<StreamResponse<I, O>> {
  const session = sessions.find() ?? (await sessions.get(options.signal));
  const call = new ClientStream<O>(method, options);
  call.begin(session);
  call.sendAll(input).catch((error: unknown) => call.giveUp(fromConnectError(error)));
  await call.answerBegun;
  return {
    stream: true,
    service: method.parent,
    method,
    // Made when asked for, since the first one loads the whole of fetch.
    get header() {
      return new Headers();
    },
    get trailer() {
      return new Headers();
    },
    message: call.answers,
  };
}

class ClientStream<O extends DescMessage> extends ClientCall {
  readonly #options: ClientCallOptions;
  readonly #beganMs: number = performance.now();
  readonly #watcher: CallWatcher | undefined;
  readonly #begun = Promise.withResolvers<void>();
  readonly answers: RequestQueue<MessageShape<O>>;
  #assembler: MessageAssembler | undefined;
  #drained: (() => void) | undefined;

  constructor(method: DescMethodStreaming<DescMessage, O>, options: ClientCallOptions) {
    super(method);
    this.#watcher = watchCall(method, options);
    const { fields } = this.#watcher ?? {};
    this.#options = fields === undefined ? options : { ...options, fields };
    this.answers = new RequestQueue(
      (message) => fromBinary(method.output, message),
      (sizeBytes) => this.stream?.consume(sizeBytes),
    );
  }

  get answerBegun(): Promise<void> {
    return this.#begun.promise;
  }

  begin(session: ClientSession): void {
    this.#assembler = new MessageAssembler(this.open(session, this.#options));
    this.watch(this.#options);
  }

  async sendAll(input: AsyncIterable<MessageInitShape<DescMessage>>): Promise<void> {
    const stream = this.stream as EndpointStream;
    for await (const message of input) {
      if (stream.isOver || this.isOver) {
        return;
      }
      const { sentBytes } = stream.messageLimits;
      const encoded = encodeAnswer(this.method.input, message, sentBytes);
      sendMessage(stream, encoded);
      this.#watcher?.requestMessage(encoded.sizeBytes);
      if (stream.isSlow) {
        await new Promise<void>((resolve) => {
          this.#drained = resolve;
        });
      }
    }
    stream.end();
  }

  onHeaders(): void {
    this.#begun.resolve();
  }

  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    try {
      const messages = this.isOver ? [] : (this.#assembler?.push(chunk, start, end) ?? []);
      if (this.#watcher !== undefined) {
        for (const message of messages) {
          this.#watcher.responseMessage(message.byteLength);
        }
      }
      this.answers.push(messages, end - start);
    } catch (error) {
      this.stream?.consume(end - start);
      this.giveUp(fromConnectError(error));
    }
    if (isLast) {
      this.onEnd(undefined);
    }
  }

  onDrained(): void {
    this.#drained?.();
  }

  override giveUp(reason: FlotillaError): void {
    this.answers.fail(reason);
    super.giveUp(reason);
  }

  protected findFault(): FlotillaError | undefined {
    return this.#assembler?.isInside === true
      ? failure(ErrorKind.Internal, `the last message of ${pathOf(this.method)} is truncated`)
      : undefined;
  }

  protected over({ code, error }: CallOver): void {
    this.#drained?.();
    this.#watcher?.end(code, this.#beganMs);
    if (error === undefined) {
      this.answers.end();
      this.#begun.resolve();
    } else {
      this.answers.endWith(error);
      this.#begun.reject(error);
    }
  }
}
