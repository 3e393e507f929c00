import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { type Call, EncodedResponse, type ServiceBinding } from "../handler.ts";

type UnaryFunction = (
  request: MessageShape<DescMessage>,
  call: Call,
) => Promise<MessageInitShape<DescMessage> | EncodedResponse> | MessageInitShape<DescMessage> | EncodedResponse;

/** A method with what answers it. */
export interface ServedMethod {
  readonly method: DescMethodUnary;
  readonly handler: UnaryFunction;
}

/** Methods by service and name. */
export type MethodTable = ReadonlyMap<string, ReadonlyMap<string, ServedMethod>>;

/** The unary methods of services. */
export function collectMethods(services: readonly ServiceBinding[]): MethodTable {
  const table = new Map<string, Map<string, ServedMethod>>();
  for (const { service, handlers } of services) {
    const methods = table.get(service.typeName) ?? new Map<string, ServedMethod>();
    table.set(service.typeName, methods);
    for (const method of service.methods) {
      const handler = handlers[method.localName];
      if (isUnary(method) && typeof handler === "function") {
        methods.set(method.name, { method, handler: handler as UnaryFunction });
      }
    }
  }
  return table;
}

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === "unary";
}

/**
 * Answers a call.
 *
 * @param payload - The request, encoded.
 * @returns The answer, encoded.
 * @throws {@link FlotillaError} `internal` when the payload is malformed; what the handler throws.
 */
export async function callMethod(
  { method, handler }: ServedMethod,
  payload: Uint8Array,
  call: Call,
): Promise<Uint8Array> {
  const answer = await handler(decodePayload(method, payload), call);
  return answer instanceof EncodedResponse ? answer.bytes : toBinary(method.output, create(method.output, answer));
}

function decodePayload(method: DescMethodUnary, payload: Uint8Array): MessageShape<DescMessage> {
  try {
    return fromBinary(method.input, payload);
  } catch (error) {
    const message = `ttrpc: error unmarshalling payload: ${String(error)}`;
    throw new FlotillaError(ErrorKind.Internal, message, { cause: error });
  }
}
