import type http2 from "node:http2";
import { create, type DescMessage, type DescMethodUnary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { messageBytesMax } from "#base/limits.ts";
import { type Call, EncodedResponse } from "../handler.ts";
import {
  announcedBytes,
  frameMessage,
  joinedBytesMax,
  messagePrefix,
  messagePrefixBytes,
  unframeMessage,
} from "./grpc-wire.ts";
import {
  asText,
  canceled,
  cancelInTime,
  decodeRequest,
  type FailedCall,
  reportFailure,
  tooLarge,
  trailersOnly,
} from "./thin-answer.ts";

type UnaryFunction = (
  request: MessageShape<DescMessage>,
  call: Call,
) => Promise<MessageShape<DescMessage> | EncodedResponse> | MessageShape<DescMessage> | EncodedResponse;

/** A unary method and what answers it. */
export interface UnaryMethod {
  readonly method: DescMethodUnary;
  readonly handler: UnaryFunction;
}

/** Answers one unary gRPC call straight on its stream. */
export function serveThinCall(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  { method, handler }: UnaryMethod,
  { stopped, onFailure }: { readonly stopped: AbortSignal; readonly onFailure: (failed: FailedCall) => void },
): void {
  const rpc = headers[":path"] ?? "";
  const chunks: Buffer[] = [];
  let receivedBytes = 0;
  let announced: number | undefined;
  let answered = false;
  let controller: AbortController | undefined;
  const fail = (thrown: unknown): void => {
    if (!answered && !stream.destroyed) {
      answered = true;
      const error = reportFailure(rpc, thrown, onFailure);
      stream.respond(trailersOnly(error), { endStream: true });
    }
  };
  const cancel = (reason: unknown): void => {
    controller?.abort(reason);
    fail(reason);
  };
  cancelInTime(stream, headers, stopped, cancel);
  stream.once("close", () => {
    if (!answered) {
      answered = true;
      controller?.abort(canceled());
    }
  });
  // A stream that the client resets reports an error and then closes; the close does all that is needed.
  stream.on("error", () => undefined);
  stream.on("data", (chunk: Buffer) => {
    // What comes after an early answer is read and dropped, so that the answer is not cut off by a reset.
    if (answered) {
      return;
    }
    chunks.push(chunk);
    receivedBytes += chunk.length;
    announced ??= announcedBytes(concat(chunks));
    if (announced !== undefined && announced > messageBytesMax) {
      chunks.length = 0;
      fail(tooLarge("grpc: received message larger than max", announced));
    } else if (announced !== undefined && receivedBytes > messagePrefixBytes + announced) {
      chunks.length = 0;
      fail(failure(ErrorKind.Internal, "the request of a unary call is surplus"));
    }
  });
  stream.once("end", () => {
    if (answered || stream.destroyed) {
      return;
    }
    const call: Call = {
      header: (name) => asText(headers[name]),
      get signal() {
        controller ??= new AbortController();
        return controller.signal;
      },
    };
    runThinCall(method, handler, concat(chunks), call).then((message) => {
      if (!answered && !stream.destroyed) {
        answered = true;
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        endWithMessage(stream, message);
      }
    }, fail);
  });
}

async function runThinCall(
  method: DescMethodUnary,
  handler: UnaryFunction,
  body: Buffer,
  call: Call,
): Promise<Uint8Array> {
  const unframed = unframeMessage(body);
  if ("fault" in unframed) {
    throw failure(ErrorKind.Internal, `the request of a unary call is ${unframed.fault}`);
  }
  if (unframed.message.byteLength > messageBytesMax) {
    throw tooLarge("grpc: received message larger than max", unframed.message.byteLength);
  }
  const request = decodeRequest(method, unframed.message);
  const response = await handler(request, call);
  const message =
    response instanceof EncodedResponse ? response.bytes : toBinary(method.output, create(method.output, response));
  if (message.byteLength > messageBytesMax) {
    throw tooLarge("grpc: trying to send message larger than max", message.byteLength);
  }
  return message;
}

function endWithMessage(stream: http2.ServerHttp2Stream, message: Uint8Array): void {
  if (message.byteLength <= joinedBytesMax) {
    stream.end(frameMessage(message));
    return;
  }
  stream.cork();
  stream.write(messagePrefix(message.byteLength));
  stream.end(message);
}

function concat(chunks: readonly Buffer[]): Buffer {
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
}
