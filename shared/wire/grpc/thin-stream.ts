import type http2 from "node:http2";
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import { messageBytesMax } from "#base/limits.ts";
import type { Call } from "../handler.ts";
import { frameMessage, joinedBytesMax, messagePrefix } from "./grpc-wire.ts";
import { MessageAssembler } from "./message-assembler.ts";
import { RequestQueue } from "./request-queue.ts";
import {
  asText,
  canceled,
  cancelInTime,
  decodeRequest,
  type FailedCall,
  failureTrailers,
  reportFailure,
  tooLarge,
  trailersOnly,
} from "./thin-answer.ts";

type Message = MessageShape<DescMessage>;
type Answers = AsyncIterable<MessageInitShape<DescMessage>>;

/** A method whose answer is a stream, with its handler. */
export type StreamingMethod =
  | { readonly method: DescMethodServerStreaming; readonly handler: (request: Message, call: Call) => Answers }
  | {
      readonly method: DescMethodBiDiStreaming;
      readonly handler: (requests: AsyncIterable<Message>, call: Call) => Answers;
    };

/**
 * Answers one streaming gRPC call straight on its HTTP/2 stream.
 *
 * Nothing runs ahead: requests are read as the handler asks for them, and the handler is asked for the next answer when the
 * one before has gone out. When the client goes away, the deadline passes or the process stops, the call is over at once:
 * its signal aborts, and a handler that waits for a request is told why. One that waits for anything else has to watch the
 * signal.
 */
export function serveThinStream(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  streaming: StreamingMethod,
  { stopped, onFailure }: { readonly stopped: AbortSignal; readonly onFailure: (failed: FailedCall) => void },
): void {
  const controller = new AbortController();
  const requests = receiveRequests(stream, streaming.method);
  const answer = new StreamAnswer(stream);
  const fail = (thrown: unknown): void => {
    if (!answer.isOver) {
      answer.fail(reportFailure(headers[":path"] ?? "", thrown, onFailure));
    }
  };
  const cancel = (reason: unknown): void => {
    controller.abort(reason);
    requests.fail(reason);
    fail(reason);
  };
  cancelInTime(stream, headers, stopped, cancel);
  stream.once("close", () => {
    cancel(canceled());
  });
  const call: Call = {
    header: (name) => asText(headers[name]),
    signal: controller.signal,
    acknowledge: () => answer.acknowledge(),
  };
  runStream(streaming, requests, answer, call).then(() => answer.end(), fail);
}

async function runStream(
  { method, handler }: StreamingMethod,
  requests: RequestQueue<Message>,
  answer: StreamAnswer,
  call: Call,
): Promise<void> {
  const input = method.methodKind === "server_streaming" ? await onlyRequest(requests) : requests;
  for await (const message of handler(input as Message & RequestQueue<Message>, call)) {
    const encoded = toBinary(method.output, create(method.output, message));
    if (encoded.byteLength > messageBytesMax) {
      throw tooLarge("grpc: trying to send message larger than max", encoded.byteLength);
    }
    await answer.send(encoded);
  }
  await requests.return();
}

async function onlyRequest(requests: RequestQueue<Message>): Promise<Message> {
  const first = await requests.next();
  if (first.done === true) {
    throw failure(ErrorKind.Internal, "the call has no request");
  }
  return first.value;
}

function receiveRequests(stream: http2.ServerHttp2Stream, method: StreamingMethod["method"]): RequestQueue<Message> {
  const assembler = new MessageAssembler();
  const requests = new RequestQueue<Message>(stream);
  stream.on("data", (chunk: Buffer) => {
    try {
      requests.push(assembler.push(chunk).map((message) => decodeRequest(method, message)));
    } catch (error) {
      requests.fail(error);
      stream.removeAllListeners("data");
      stream.resume();
    }
  });
  stream.once("end", () => {
    if (assembler.isInside) {
      requests.fail(failure(ErrorKind.Internal, "the last message of the stream is truncated"));
    } else {
      requests.end();
    }
  });
  // A stream that the client resets reports an error and then closes; the close does all that is needed.
  stream.on("error", () => undefined);
  return requests;
}

/** The answer on its way out: headers with the first message or before it, then messages, then trailers. */
class StreamAnswer {
  readonly #stream: http2.ServerHttp2Stream;
  #hasResponded = false;
  #isOver = false;
  #trailers: http2.OutgoingHttpHeaders = {};

  constructor(stream: http2.ServerHttp2Stream) {
    this.#stream = stream;
  }

  /** Whether nothing more can be sent. */
  get isOver(): boolean {
    return this.#isOver || this.#stream.destroyed || this.#stream.closed;
  }

  /** Sends the headers now. */
  acknowledge(): void {
    if (!this.isOver) {
      this.#respond();
    }
  }

  /** Sends a message, and waits while the client takes no more. */
  async send(message: Uint8Array): Promise<void> {
    if (this.isOver) {
      throw canceled();
    }
    this.#respond();
    if (!this.#write(message)) {
      await this.#drained();
    }
  }

  /** Ends a call that went well. */
  end(): void {
    if (!this.isOver) {
      this.#respond();
      this.#finish({ "grpc-status": "0" });
    }
  }

  /** Ends a call that failed. */
  fail(error: ConnectError): void {
    if (this.#hasResponded) {
      this.#finish(failureTrailers(error));
    } else {
      this.#isOver = true;
      this.#stream.respond(trailersOnly(error), { endStream: true });
    }
  }

  #respond(): void {
    if (!this.#hasResponded) {
      this.#hasResponded = true;
      this.#stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      this.#stream.once("wantTrailers", () => this.#stream.sendTrailers(this.#trailers));
    }
  }

  #finish(trailers: http2.OutgoingHttpHeaders): void {
    this.#isOver = true;
    this.#trailers = trailers;
    this.#stream.end();
  }

  #write(message: Uint8Array): boolean {
    if (message.byteLength <= joinedBytesMax) {
      return this.#stream.write(frameMessage(message));
    }
    this.#stream.cork();
    this.#stream.write(messagePrefix(message.byteLength));
    const flushed = this.#stream.write(message);
    this.#stream.uncork();
    return flushed;
  }

  async #drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stream.once("drain", resolve);
    this.#stream.once("close", resolve);
    await promise;
    this.#stream.off("drain", resolve);
    this.#stream.off("close", resolve);
  }
}
