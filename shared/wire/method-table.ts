import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import {
  type Call,
  type EncodedResponse,
  type EncodedResponses,
  isEncodedHandler,
  type ServiceBinding,
} from "./handler.ts";

type Message = MessageShape<DescMessage>;
type Answer = MessageInitShape<DescMessage> | EncodedResponse;

/** What answers a method, with the types that all messages have. */
export type OneAnswer = (request: Message & AsyncIterable<Message>, call: Call) => Promise<Answer> | Answer;
export type ManyAnswers = (
  request: Message & AsyncIterable<Message>,
  call: Call,
) => AsyncIterable<Answer | EncodedResponses>;

/** A method and what answers it. */
export interface ServedMethod {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly method: DescMethod;
  readonly handler: OneAnswer | ManyAnswers;
  /** Whether the handler takes the encoded request in place of the message. */
  readonly takesEncoded: boolean;
  /** Whether the call changes nothing, so that nobody has to wait for its end. */
  readonly isHarmless: boolean;
}

/** The methods that have a handler, by their path. */
export type MethodTable = ReadonlyMap<string, ServedMethod>;

/** Collects the methods of services that have a handler. */
export function tableOfMethods(services: readonly ServiceBinding[]): MethodTable {
  const table = new Map<string, ServedMethod>();
  for (const { service, handlers } of services) {
    for (const method of service.methods) {
      const handler = handlers[method.localName];
      if (typeof handler === "function") {
        const path = `/${service.typeName}/${method.name}`;
        const isHarmless = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
        const takesEncoded = isEncodedHandler(handler);
        table.set(path, { path, method, handler: handler as OneAnswer, takesEncoded, isHarmless });
      }
    }
  }
  return table;
}
