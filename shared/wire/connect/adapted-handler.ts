import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, type ConnectError, type ContextKey, createContextKey, type HandlerContext } from "@connectrpc/connect";
import { callIdOf } from "../call-id.ts";
import { codeOfSuccess } from "../errors.ts";
import { type Call, EncodedResponse, EncodedResponses } from "../handler.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import type { HeaderList } from "../http2/header-list.ts";
import type { ManyAnswers, OneAnswer, ServedMethod } from "../method-table.ts";
import type { CallWatcher } from "../observe.ts";
import { showOpaque, takeOpaque } from "./opaque-values.ts";

/** What a call is told besides what Connect gives its handler. */
export interface CallSource {
  readonly request: HeaderList;
  readonly stream: EndpointStream;
  readonly watcher: CallWatcher | undefined;
  /** How the call ended, once its handler has. */
  code: Code | undefined;
}

/** Where a handler finds its call. */
export const sourceKey: ContextKey<CallSource | undefined> = createContextKey<CallSource | undefined>(undefined);

/**
 * Makes a handler of Connect's of one of ours.
 *
 * @param report - Tells of a failure, and gives the error that the client gets.
 */
export function adaptHandler(
  { method, handler, takesEncoded }: ServedMethod,
  report: (thrown: unknown) => ConnectError,
): unknown {
  const isManyRequests = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
  const watched = (request: Parameters<OneAnswer>[0], context: HandlerContext): Parameters<OneAnswer>[0] => {
    const source = context.values.get(sourceKey);
    if (isJson(context) && !isManyRequests) {
      takeOpaque(method.input, request as Message);
    }
    if (source?.watcher === undefined) {
      return request;
    }
    if (isManyRequests) {
      return countRequests(request, source.watcher) as Parameters<OneAnswer>[0];
    }
    source.watcher.requestMessage(0);
    return request;
  };
  const end = (source: CallSource | undefined, code: Code): void => {
    if (source !== undefined) {
      source.code = code;
    }
  };
  const failed = (source: CallSource | undefined, thrown: unknown): ConnectError => {
    const error = report(thrown);
    end(source, error.code);
    return error;
  };
  if (method.methodKind === "unary" || method.methodKind === "client_streaming") {
    return async (request: Parameters<OneAnswer>[0], context: HandlerContext) => {
      const source = context.values.get(sourceKey);
      try {
        const message = watched(request, context);
        const given = takesEncoded ? encodeRequest(method.input, message) : message;
        const answer = await (handler as OneAnswer)(given, callOf(context));
        source?.watcher?.responseMessage(0);
        end(source, codeOfSuccess);
        return asMessage(method, answer, context);
      } catch (error) {
        throw failed(source, error);
      }
    };
  }
  return async function* (request: Parameters<ManyAnswers>[0], context: HandlerContext) {
    const source = context.values.get(sourceKey);
    // Whoever stops reading has gone.
    end(source, Code.Canceled);
    try {
      for await (const given of (handler as ManyAnswers)(watched(request, context), callOf(context))) {
        for (const answer of given instanceof EncodedResponses ? given.messages : [given]) {
          source?.watcher?.responseMessage(0);
          yield asMessage(method, answer, context);
        }
      }
      end(source, codeOfSuccess);
    } catch (error) {
      throw failed(source, error);
    }
  };
}

/** For a handler that reads the message itself. */
function encodeRequest(schema: DescMessage, message: MessageShape<DescMessage>): Parameters<OneAnswer>[0] {
  return toBinary(schema, message) as unknown as Parameters<OneAnswer>[0];
}

async function* countRequests<T>(requests: AsyncIterable<T>, watcher: CallWatcher): AsyncIterable<T> {
  for await (const request of requests) {
    watcher.requestMessage(0);
    yield request;
  }
}

function asMessage(method: DescMethod, answer: unknown, context: HandlerContext): unknown {
  const message = answer instanceof EncodedResponse ? fromBinary(method.output, answer.bytes) : answer;
  return isJson(context)
    ? showOpaque(method.output, create(method.output, message as MessageInitShape<DescMessage>))
    : message;
}

function isJson({ requestHeader }: HandlerContext): boolean {
  return requestHeader.get("content-type")?.includes("json") ?? false;
}

function callOf(context: HandlerContext): Call {
  const source = context.values.get(sourceKey);
  return {
    header: (name) => source?.request.find(name),
    get id() {
      return source === undefined ? undefined : callIdOf(source.stream, source.request);
    },
    signal: context.signal,
  };
}
