import http2 from "node:http2";
import { type DescMethod, type DescMethodUnary, fromBinary } from "@bufbuild/protobuf";
import { Code, type ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { messageBytesMax } from "#base/limits.ts";
import { encodeGrpcMessage } from "../grpc/grpc-wire.ts";
import { type FailedCall, reportFailure } from "../grpc/thin-answer.ts";
import { type Call, EncodedResponse, type ServiceBinding } from "../handler.ts";
import { typeRegistry } from "./type-registry.ts";

export interface ConnectAdapterOptions {
  readonly services: readonly ServiceBinding[];
  readonly onFailure: (failed: FailedCall) => void;
  /** Aborts the calls under way. */
  readonly stopped: AbortSignal;
}

/**
 * Makes a server that never listens: `stream` events of another server are given to it, and it answers them by all protocols that
 * Connect knows. A module of its own, loaded at the first call that needs it, since it costs every process 14 MB.
 */
export function createConnectAdapter(options: ConnectAdapterOptions): http2.Http2Server {
  return http2.createServer(
    connectNodeAdapter({
      routes: (router) => registerServices(router, options),
      fallback: (_request, response) => {
        response.writeHead(200, {
          "content-type": "application/grpc",
          "grpc-status": String(Code.Unimplemented),
          "grpc-message": encodeGrpcMessage("unknown service or method"),
        });
        response.end();
      },
      jsonOptions: { registry: typeRegistry },
      readMaxBytes: messageBytesMax,
      writeMaxBytes: messageBytesMax,
      shutdownSignal: options.stopped,
    }),
  );
}

function registerServices(router: ConnectRouter, options: ConnectAdapterOptions): void {
  for (const { service, handlers } of options.services) {
    for (const method of service.methods) {
      const handler = handlers[method.localName];
      if (typeof handler === "function") {
        const rpc = `/${service.typeName}/${method.name}`;
        const report = (thrown: unknown): ConnectError => reportFailure(rpc, thrown, options.onFailure);
        router.rpc(method as DescMethodUnary, adaptHandler(method, handler as AnyHandler, report) as never);
      }
    }
  }
}

type AnyHandler = (request: unknown, call: Call) => unknown;

function adaptHandler(method: DescMethod, handler: AnyHandler, report: (thrown: unknown) => ConnectError): unknown {
  if (method.methodKind === "unary" || method.methodKind === "client_streaming") {
    return async (request: unknown, context: HandlerContext) => {
      try {
        const response = await handler(request, callOf(context));
        return response instanceof EncodedResponse ? fromBinary(method.output, response.bytes) : response;
      } catch (error) {
        throw report(error);
      }
    };
  }
  return async function* (request: unknown, context: HandlerContext) {
    try {
      yield* handler(request, callOf(context)) as AsyncIterable<unknown>;
    } catch (error) {
      throw report(error);
    }
  };
}

function callOf(context: HandlerContext): Call {
  return { header: (name) => context.requestHeader.get(name) ?? undefined, signal: context.signal };
}
