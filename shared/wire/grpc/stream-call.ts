import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { EncodedResponses } from "../handler.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import type { HeaderList } from "../http2/header-list.ts";
import type { StreamEvents } from "../http2/stream-events.ts";
import type { ManyAnswers, OneAnswer, ServedMethod } from "../method-table.ts";
import { answerHead, canceled, decodeRequest, encodeAnswer, sendMessage, sendMessages } from "./answers.ts";
import { MessageAssembler } from "./message-assembler.ts";
import { RequestQueue } from "./request-queue.ts";
import { type CallContext, ServerCall } from "./server-call.ts";

type Message = MessageShape<DescMessage>;

/**
 * Answers one call in which the client or the server streams, straight on its stream.
 *
 * Nothing runs ahead: requests are read as the handler asks for them, and the handler is asked for the next answer when the
 * one before has gone out. When the client goes away, the deadline passes or the process stops, the call is over at once:
 * its signal aborts, and a handler that waits for a request is told why. One that waits for anything else has to watch the
 * signal.
 */
export class StreamCall extends ServerCall implements StreamEvents {
  readonly #assembler: MessageAssembler;
  readonly #requests: RequestQueue<Message>;
  #drained: (() => void) | undefined;

  constructor(stream: EndpointStream, served: ServedMethod, request: HeaderList, context: CallContext) {
    super(stream, served, request, context);
    this.#assembler = new MessageAssembler(stream);
    this.#requests = new RequestQueue(
      (message) => decodeRequest(served.method, message),
      (sizeBytes) => stream.consume(sizeBytes),
    );
  }

  /** Calls the handler; the stream tells its events to this call. */
  begin(): void {
    const run = this.watcher?.run;
    if (run === undefined) {
      this.#answerAll();
    } else {
      run(() => this.#answerAll());
    }
    this.watchDeadline();
  }

  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    try {
      const messages = this.isOver ? [] : this.#assembler.push(chunk, start, end);
      if (this.watcher !== undefined) {
        for (const message of messages) {
          this.watcher.requestMessage(message.byteLength);
        }
      }
      this.#requests.push(messages, end - start);
    } catch (error) {
      this.#requests.fail(error);
      this.stream.consume(end - start);
    }
    if (isLast) {
      this.onEnd();
    }
  }

  onEnd(): void {
    if (this.#assembler.isInside) {
      this.#requests.fail(failure(ErrorKind.Internal, "the last message of the stream is truncated"));
    } else {
      this.#requests.end();
    }
  }

  onDrained(): void {
    this.#drained?.();
  }

  borrowRequests(): void {
    this.#requests.lend((message) => this.#assembler.reuse(message));
  }

  /** Sends the headers now. */
  acknowledge(): void {
    if (!this.isOver && !this.hasResponded) {
      this.hasResponded = true;
      this.stream.sendHeaders(answerHead);
    }
  }

  /** Sends the point, in front of what has not been asked for yet. */
  resumeAt(point: string): void {
    if (!this.isOver) {
      this.stream.sendResumePoint(point);
    }
  }

  protected override fail(thrown: unknown): void {
    super.fail(thrown);
    void this.#requests.return();
  }

  protected override abort(reason: unknown): void {
    super.abort(reason);
    this.#requests.fail(reason);
    this.#drained?.();
  }

  #answerAll(): void {
    this.#run().then(
      () => this.succeed(),
      (error: unknown) => this.fail(error),
    );
  }

  async #run(): Promise<void> {
    const { method, handler } = this.served;
    const input = method.methodKind === "server_streaming" ? await this.#onlyRequest() : this.#requests;
    const request = input as Message & RequestQueue<Message>;
    if (method.methodKind === "client_streaming") {
      await this.#send(await (handler as OneAnswer)(request, this));
    } else {
      for await (const answer of (handler as ManyAnswers)(request, this)) {
        await this.#send(answer);
      }
    }
    await this.#requests.return();
  }

  async #onlyRequest(): Promise<Message> {
    const first = await this.#requests.next();
    if (first.done === true) {
      throw failure(ErrorKind.Internal, "the call has no request");
    }
    return first.value;
  }

  /** Sends a message or several, and waits while the client takes no more. */
  #send(answer: Parameters<typeof encodeAnswer>[1] | EncodedResponses): Promise<void> | undefined {
    if (this.isOver) {
      throw canceled();
    }
    const { sentBytes } = this.stream.messageLimits;
    const { output } = this.served.method;
    if (answer instanceof EncodedResponses) {
      const several = answer.messages.map((message) => encodeAnswer(output, message, sentBytes));
      this.acknowledge();
      sendMessages(this.stream, several);
      several.forEach(({ sizeBytes }) => this.watcher?.responseMessage(sizeBytes));
    } else {
      const message = encodeAnswer(output, answer, sentBytes);
      this.acknowledge();
      sendMessage(this.stream, message);
      this.watcher?.responseMessage(message.sizeBytes);
    }
    return this.stream.isSlow ? this.#whenDrained() : undefined;
  }

  #whenDrained(): Promise<void> {
    return new Promise((resolve) => {
      this.#drained = () => {
        this.#drained = undefined;
        resolve();
      };
    });
  }
}
