import {
  create,
  type DescMessage,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { ErrorKind, type FlotillaError, failure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import type { Logger } from "#fleet/log.ts";
import { type Call, EncodedResponse, type UnaryHandler } from "#wire/handler.ts";
import type { CallJournal } from "./call-journal.ts";

/** One try of a call that changes something. */
export interface Attempt {
  /** What the call is known by; undefined for callers that never make one again. */
  readonly id: string | undefined;
  /** Whether a process before this one was amid the call, and nobody knows how far it came. */
  readonly mayBeDone: boolean;
  /** What {@link note} was given at that time. */
  readonly noted: unknown;
  /** Keeps what has to be known if the call is made again. It is written as JSON. */
  readonly note: (value: unknown) => void;
}

/** Says that nobody knows how far a call came that is made again. @param what - Such as `container x was started`. */
export function unknownFate(what: string): FlotillaError {
  return failure(ErrorKind.Unavailable, `the process died that knew whether ${what}`);
}

/**
 * Answers calls that change something, so that each is carried out once, however often it is made because this process died: one that was
 * answered gets that answer, one that had not begun is carried out, and one in between finds out, by what it sees, what is left to do.
 */
export class Changes {
  readonly #journal: CallJournal;
  readonly #log: Logger;
  readonly #locks = new KeyedLock<string>();

  constructor(journal: CallJournal, log: Logger) {
    this.#journal = journal;
    this.#log = log;
  }

  /**
   * Makes the handler of a method.
   *
   * @param keyOf - What the calls must not change at the same time, since of two only one can succeed: so at most one call to a thing is unfinished
   *   when this process dies, and what is found changed was changed by that one.
   */
  once<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    keyOf: ((request: MessageShape<I>, call: Call) => string) | undefined,
    handle: (request: MessageShape<I>, call: Call, attempt: Attempt) => Promise<MessageInitShape<O>>,
  ): UnaryHandler<I, O> {
    return (request, call) => {
      const act = (): Promise<MessageInitShape<O> | EncodedResponse> =>
        this.#attempt(method, call, (attempt) => handle(request, call, attempt));
      return keyOf === undefined ? act() : this.#locks.run([keyOf(request, call)], act, call.signal);
    };
  }

  async #attempt<I extends DescMessage, O extends DescMessage>(
    { output }: DescMethodUnary<I, O>,
    call: Call,
    handle: (attempt: Attempt) => Promise<MessageInitShape<O>>,
  ): Promise<MessageInitShape<O> | EncodedResponse> {
    const journal = this.#journal;
    const callId = call.id;
    if (callId === undefined) {
      return handle({ id: undefined, mayBeDone: false, noted: undefined, note: () => undefined });
    }
    const { id } = callId;
    const past = callId.repeatedAfterMs === undefined ? undefined : journal.recall(callId);
    if (past?.answer !== undefined) {
      return new EncodedResponse(past.answer);
    }
    journal.begin(id);
    const note = (value: unknown): void => journal.note(id, value);
    let answer: Uint8Array;
    try {
      const attempt = { id, mayBeDone: past !== undefined, noted: past?.note, note };
      answer = toBinary(output, create(output, await handle(attempt)));
    } catch (error) {
      // Nobody knows what became of it if it was given up, as calls are when the process stops.
      if (!call.signal.aborted) {
        this.#write(() => journal.failed(id));
      }
      throw error;
    }
    this.#write(() => journal.answered(id, answer));
    return new EncodedResponse(answer);
  }

  /** What is done is told, even if it cannot be written down. */
  #write(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#log.error(
        { err: error },
        "the end of a call is not written down; it could be carried out again after a crash",
      );
    }
  }
}
