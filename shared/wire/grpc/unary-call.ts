import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import type { EncodedResponse } from "../handler.ts";
import type { StreamEvents } from "../http2/stream-events.ts";
import type { OneAnswer } from "../method-table.ts";
import { answerHead, decodeRequest, encodeAnswer, sendMessage } from "./answers.ts";
import { MessageAssembler } from "./message-assembler.ts";
import { ServerCall } from "./server-call.ts";

type Answer = MessageInitShape<DescMessage> | EncodedResponse;

/**
 * Answers one unary call straight on its stream. A handler that has its answer at hand is answered at once; nothing is made
 * for a call but what it needs.
 */
export class UnaryCall extends ServerCall implements StreamEvents {
  #assembler: MessageAssembler | undefined;
  #message: Uint8Array | undefined;

  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    if (!this.isOver) {
      try {
        this.#receive(chunk, start, end, isLast);
      } catch (error) {
        this.fail(error);
      }
    }
    // What comes after an early answer is read and dropped, so that the answer is not cut off by a reset.
    this.stream.consume(end - start);
    if (isLast) {
      this.onEnd();
    }
  }

  onEnd(): void {
    if (this.isOver) {
      return;
    }
    const message = this.#message;
    if (message === undefined || this.#assembler?.isInside === true) {
      this.fail(failure(ErrorKind.Internal, "the request of a unary call is truncated"));
      return;
    }
    this.#message = undefined;
    const { watcher } = this;
    watcher?.requestMessage(message.byteLength);
    if (watcher?.run === undefined) {
      this.#handle(message);
    } else {
      watcher.run(() => this.#handle(message));
    }
  }

  #handle(message: Uint8Array): void {
    try {
      const { method, takesEncoded } = this.served;
      const request = takesEncoded ? message : decodeRequest(method, message);
      const answer = (this.served.handler as OneAnswer)(
        request as unknown as MessageShape<DescMessage> & AsyncIterable<never>,
        this,
      );
      if (answer instanceof Promise) {
        answer.then(
          (settled) => this.#answer(settled),
          (error: unknown) => this.fail(error),
        );
        this.watchDeadline();
      } else {
        this.#answer(answer);
      }
    } catch (error) {
      this.fail(error);
    }
  }

  #receive(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    this.#assembler ??= new MessageAssembler(this.stream);
    // Who reads the request by itself has done so before the next read, if nothing more has to come.
    for (const message of this.#assembler.push(chunk, start, end, isLast && this.served.takesEncoded)) {
      if (this.#message !== undefined) {
        throw failure(ErrorKind.Internal, "the request of a unary call is surplus");
      }
      this.#message = message;
    }
  }

  #answer(answer: Answer): void {
    if (this.isOver) {
      return;
    }
    try {
      const { stream } = this;
      const message = encodeAnswer(this.served.method.output, answer, stream.messageLimits.sentBytes);
      stream.sendHeaders(answerHead);
      this.hasResponded = true;
      sendMessage(stream, message);
      this.watcher?.responseMessage(message.sizeBytes);
      this.succeed();
    } catch (error) {
      this.fail(error);
    }
  }
}
