import {
  type DescMessage,
  type DescMethodStreaming,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type { StreamResponse } from "@connectrpc/connect";
import { ErrorKind, type FlotillaError, failure } from "#base/errors.ts";
import { codeOf, fromConnectError } from "../errors.ts";
import type { ClientSession } from "../http2/client-session.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import type { HeaderList } from "../http2/header-list.ts";
import { ErrorCode } from "../http2/protocol.ts";
import type { StreamEvents } from "../http2/stream-events.ts";
import type { CallWatcher } from "../observe.ts";
import { abortReason, type SessionHolder } from "../session-holder.ts";
import { encodeAnswer, sendMessage } from "./answers.ts";
import { type ClientCallOptions, encodeRequestHead, pathOf, readEnd, watchCall, watchEnd } from "./client-request.ts";
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

class ClientStream<O extends DescMessage> implements StreamEvents {
  readonly #method: DescMethodStreaming<DescMessage, O>;
  readonly #options: ClientCallOptions;
  readonly #beganMs: number = performance.now();
  readonly #watcher: CallWatcher | undefined;
  readonly #begun = Promise.withResolvers<void>();
  readonly answers: RequestQueue<MessageShape<O>>;
  #session: ClientSession | undefined;
  #stream: EndpointStream | undefined;
  #assembler: MessageAssembler | undefined;
  #drained: (() => void) | undefined;
  #endWatch: (() => void) | undefined;
  #isOver = false;

  constructor(method: DescMethodStreaming<DescMessage, O>, options: ClientCallOptions) {
    this.#method = method;
    this.#watcher = watchCall(method, options);
    const { fields } = this.#watcher ?? {};
    this.#options = fields === undefined ? options : { ...options, fields };
    this.answers = new RequestQueue(
      (message) => fromBinary(method.output, message),
      (sizeBytes) => this.#stream?.consume(sizeBytes),
    );
  }

  get answerBegun(): Promise<void> {
    return this.#begun.promise;
  }

  begin(session: ClientSession): void {
    const { signal } = this.#options;
    this.#session = session;
    this.#stream = session.open(encodeRequestHead(this.#method, this.#options), this);
    this.#assembler = new MessageAssembler(this.#stream);
    this.#endWatch = watchEnd(this.#options, (reason) => this.giveUp(reason));
    if (signal?.aborted === true) {
      this.giveUp(abortReason(signal));
    }
  }

  async sendAll(input: AsyncIterable<MessageInitShape<DescMessage>>): Promise<void> {
    const stream = this.#stream as EndpointStream;
    for await (const message of input) {
      if (stream.isOver || this.#isOver) {
        return;
      }
      const { sentBytes } = stream.messageLimits;
      const encoded = encodeAnswer(this.#method.input, message, sentBytes);
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
      const messages = this.#isOver ? [] : (this.#assembler?.push(chunk, start, end) ?? []);
      if (this.#watcher !== undefined) {
        for (const message of messages) {
          this.#watcher.responseMessage(message.byteLength);
        }
      }
      this.answers.push(messages, end - start);
    } catch (error) {
      this.#stream?.consume(end - start);
      this.giveUp(fromConnectError(error));
    }
    if (isLast) {
      this.onEnd(undefined);
    }
  }

  onEnd(trailers: HeaderList | undefined): void {
    const { code, error } = readEnd(pathOf(this.#method), trailers);
    if (error !== undefined) {
      this.#finish(error, code);
    } else if (this.#assembler?.isInside === true) {
      this.#finish(failure(ErrorKind.Internal, `the last message of ${pathOf(this.#method)} is truncated`), code);
    } else {
      this.#finish(undefined, code);
    }
    // What the service does not want to read need not be sent.
    this.#stream?.reset(ErrorCode.NoError);
  }

  onAbort(code: number | undefined): void {
    const rpc = pathOf(this.#method);
    const error =
      code === undefined || code === ErrorCode.RefusedStream
        ? failure(ErrorKind.Unavailable, `connection lost during ${rpc}`, { cause: this.#session?.fault })
        : failure(ErrorKind.Internal, `${rpc} was reset with code ${code}`);
    this.#finish(error, codeOf(error.kind));
  }

  onDrained(): void {
    this.#drained?.();
  }

  giveUp(reason: FlotillaError): void {
    this.answers.fail(reason);
    this.#finish(reason, codeOf(reason.kind));
    this.#stream?.reset(ErrorCode.Cancel);
  }

  #finish(error: FlotillaError | undefined, code: Parameters<CallWatcher["end"]>[0]): void {
    if (this.#isOver) {
      return;
    }
    this.#isOver = true;
    this.#endWatch?.();
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
