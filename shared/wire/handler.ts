import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { CallId } from "./call-id.ts";

/** What a handler knows of a call besides its message. */
export interface Call {
  /** First value of a request header, by its lower-case name. */
  header(name: string): string | undefined;
  /** What the call is known by when it is made again; undefined for callers that never do that. */
  readonly id?: CallId | undefined;
  /** Aborts when the client cancels, the deadline passes or the process stops. */
  readonly signal: AbortSignal;
  /**
   * Tells the client, before there is an answer, that the call is under way, by sending the response headers. Only streams of answers
   * in plain gRPC do it; elsewhere the headers wait for the first answer.
   */
  acknowledge?(): void;
  /**
   * Tells whoever can make a stream of answers go on after the death of this process that what follows begins at a point of the handler's own
   * making: the call is made again with it ({@link CallId.resumeAt}) and has to give the same answers from there, byte by byte. An empty point
   * stands for the beginning. Only streams of answers in plain gRPC have it. To be called before an answer is given.
   *
   * @param point - Visible ASCII without a semicolon.
   */
  resumeAt?(point: string): void;
  /**
   * Says that the handler has used each request of a stream, its bytes included, when it asks for the next one: the next may lie in the same
   * memory. For handlers that get bulk data; protocols that can't make use of it don't have it.
   */
  borrowRequests?(): void;
}

/**
 * A response that is encoded already, such as a list put together from records that are kept encoded, or a block of a file.
 * Handlers may give it in place of any message of an answer.
 */
export class EncodedResponse {
  /** The message in pieces, which nobody changes from now on. Large ones are sent as they are, without being copied. */
  readonly parts: readonly Uint8Array[];
  readonly sizeBytes: number;

  constructor(...parts: readonly Uint8Array[]) {
    this.parts = parts;
    let sizeBytes = 0;
    for (const part of parts) {
      sizeBytes += part.byteLength;
    }
    this.sizeBytes = sizeBytes;
  }

  /** The message in one piece. */
  get bytes(): Uint8Array {
    const [first] = this.parts;
    return this.parts.length === 1 && first !== undefined ? first : Buffer.concat(this.parts);
  }
}

/**
 * An encoded response whose pieces stay as they are only until the next answer is asked for, or the call is over. A handler
 * that gives blocks of a file can read them into the same memory again and again.
 */
export class BorrowedResponse extends EncodedResponse {}

/** Several encoded messages of a stream of answers, in their order, which leave by one write where they are small. */
export class EncodedResponses {
  readonly messages: readonly EncodedResponse[];

  constructor(messages: readonly EncodedResponse[]) {
    this.messages = messages;
  }
}

type Answer<O extends DescMessage> = MessageInitShape<O> | EncodedResponse;
type Answers<O extends DescMessage> = Answer<O> | EncodedResponses;

export type UnaryHandler<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  call: Call,
) => Promise<Answer<O>> | Answer<O>;

/** A handler that reads the request itself, so that nothing is made of what it does not look at. */
export interface EncodedHandler<O extends DescMessage> {
  /** @param request - The encoded message, which is the handler's only until it returns or gives its promise. */
  (request: Uint8Array, call: Call): Promise<Answer<O>> | Answer<O>;
}

/** Marks the handlers that take the request as it travels. */
const takesEncoded: unique symbol = Symbol("takesEncoded");

/** Makes a handler of one that reads requests itself. */
export function handleEncoded<I extends DescMessage, O extends DescMessage>(
  handler: EncodedHandler<O>,
): UnaryHandler<I, O> {
  return Object.assign(handler as unknown as UnaryHandler<I, O>, { [takesEncoded]: true });
}

/** Whether a handler has been made by {@link handleEncoded}. */
export function isEncodedHandler(handler: object): boolean {
  return takesEncoded in handler;
}

type HandlerOf<M extends DescMethod> =
  M extends DescMethodUnary<infer I, infer O>
    ? UnaryHandler<I, O>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, call: Call) => AsyncIterable<Answers<O>>
      : M extends DescMethodClientStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageShape<I>>, call: Call) => Promise<Answer<O>>
        : M extends DescMethodBiDiStreaming<infer I, infer O>
          ? (requests: AsyncIterable<MessageShape<I>>, call: Call) => AsyncIterable<Answers<O>>
          : never;

/**
 * The functions that answer the methods of a service, by their TypeScript names. A process that answers
 * only some methods of a service declares `satisfies Pick<Handlers<typeof Content>, "read" | "write">`,
 * so that a missing method does not compile.
 */
export type Handlers<S extends DescService> = { [P in keyof S["method"]]: HandlerOf<S["method"][P]> };

/** A service and the part of its methods that a process answers. */
export interface ServiceBinding {
  readonly service: DescService;
  readonly handlers: Readonly<Record<string, unknown>>;
}

/** Ties handlers to their service, with types checked. */
export function bindService<S extends DescService>(service: S, handlers: Partial<Handlers<S>>): ServiceBinding {
  return { service, handlers };
}
