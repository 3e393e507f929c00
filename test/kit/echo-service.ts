import net from "node:net";
import type { DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import { create, createFileRegistry } from "@bufbuild/protobuf";
import {
  type BytesValue,
  type BytesValueSchema,
  FileDescriptorProtoSchema,
  file_google_protobuf_wrappers,
  MethodOptions_IdempotencyLevel,
  type UInt64Value,
} from "@bufbuild/protobuf/wkt";
import { type CallOptions, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { messageBytesMax } from "#base/limits.ts";
import type { Call, ServiceBinding } from "#wire/handler.ts";

/** A service with a method of each kind, for tests of what carries calls. It is described here and not in a .proto file. */
export const Echo: DescService = describeEcho();

/** What a test lets the methods do; those that it does not name are not there. */
export interface EchoHandlers {
  unary?(request: BytesValue, call: Call): Promise<{ value: Uint8Array }> | { value: Uint8Array };
  /** As `unary`, with no side effects. */
  repeat?(request: BytesValue, call: Call): Promise<{ value: Uint8Array }> | { value: Uint8Array };
  /** As `unary`, of a process that keeps what became of calls. */
  change?(request: BytesValue, call: Call): Promise<{ value: Uint8Array }> | { value: Uint8Array };
  download?(request: UInt64Value, call: Call): AsyncIterable<{ value: Uint8Array }>;
  /** As `download`, with no side effects. */
  follow?(request: UInt64Value, call: Call): AsyncIterable<{ value: Uint8Array }>;
  upload?(requests: AsyncIterable<BytesValue>, call: Call): Promise<{ value: bigint }>;
  chat?(requests: AsyncIterable<BytesValue>, call: Call): AsyncIterable<{ value: Uint8Array }>;
}

/** The client's view of the service. */
export interface EchoClient {
  unary(request: { value: Uint8Array }, options?: CallOptions): Promise<MessageShape<typeof BytesValueSchema>>;
  repeat(request: { value: Uint8Array }, options?: CallOptions): Promise<MessageShape<typeof BytesValueSchema>>;
  change(request: { value: Uint8Array }, options?: CallOptions): Promise<MessageShape<typeof BytesValueSchema>>;
  download(request: { value: bigint }, options?: CallOptions): AsyncIterable<BytesValue>;
  follow(request: { value: bigint }, options?: CallOptions): AsyncIterable<BytesValue>;
  upload(requests: AsyncIterable<{ value: Uint8Array }>, options?: CallOptions): Promise<UInt64Value>;
  chat(requests: AsyncIterable<{ value: Uint8Array }>, options?: CallOptions): AsyncIterable<BytesValue>;
}

/** Handlers that do what the names say: return what they get, send as many bytes as asked for, count what comes. */
export const plainEcho: Required<Omit<EchoHandlers, "follow">> = {
  unary: (request) => ({ value: request.value }),
  repeat: (request) => ({ value: request.value }),
  change: (request) => ({ value: request.value }),
  async *download(request) {
    for (let left = Number(request.value); left > 0; left -= downloadBlock.length) {
      yield { value: downloadBlock.subarray(0, Math.min(left, downloadBlock.length)) };
    }
  },
  async upload(requests) {
    let receivedBytes = 0n;
    for await (const { value } of requests) {
      receivedBytes += BigInt(value.length);
    }
    return { value: receivedBytes };
  },
  async *chat(requests) {
    for await (const { value } of requests) {
      yield { value };
    }
  },
};

/** What `download` of {@link plainEcho} sends over and over. */
export const downloadBlock: Uint8Array = Uint8Array.from({ length: 256 * 1024 }, (_, index) => (index * 31) & 0xff);

/** The path of a method. */
export function echoPath(method: keyof EchoHandlers): string {
  return `/${Echo.typeName}/${method[0]?.toUpperCase() ?? ""}${method.slice(1)}`;
}

/** Routes of the service, all to one process. */
export function echoRoutes(
  upstream: string,
): Map<string, { upstream: string; repeatable: boolean; changing: boolean; streaming: boolean }> {
  return new Map(
    Echo.methods.map((method: DescMethod) => [
      `/${Echo.typeName}/${method.name}`,
      {
        upstream,
        repeatable: method.idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN,
        changing: method.idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
        streaming: method.methodKind !== "unary",
      },
    ]),
  );
}

export function bindEcho(handlers: EchoHandlers): ServiceBinding {
  return { service: Echo, handlers: handlers as Record<string, unknown> };
}

export function echoClient(transport: Transport): EchoClient {
  return createClient(Echo, transport) as unknown as EchoClient;
}

/** A gRPC client on one connection to a socket. */
export function openEchoClient(socketPath: string): EchoClient & Disposable {
  const sessionManager = new Http2SessionManager("http://localhost", undefined, {
    createConnection: () => net.connect(socketPath),
  });
  const transport = createGrpcTransport({
    baseUrl: "http://localhost",
    sessionManager,
    readMaxBytes: messageBytesMax,
    writeMaxBytes: messageBytesMax,
  });
  return Object.assign(echoClient(transport), { [Symbol.dispose]: () => sessionManager.abort() });
}

function describeEcho(): DescService {
  const bytes = ".google.protobuf.BytesValue";
  const number = ".google.protobuf.UInt64Value";
  const file = create(FileDescriptorProtoSchema, {
    name: "flotilla/test/v1/echo.proto",
    package: "flotilla.test.v1",
    syntax: "proto3",
    dependency: ["google/protobuf/wrappers.proto"],
    service: [
      {
        name: "Echo",
        method: [
          { name: "Unary", inputType: bytes, outputType: bytes },
          {
            name: "Repeat",
            inputType: bytes,
            outputType: bytes,
            options: { idempotencyLevel: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS },
          },
          {
            name: "Change",
            inputType: bytes,
            outputType: bytes,
            options: { idempotencyLevel: MethodOptions_IdempotencyLevel.IDEMPOTENT },
          },
          { name: "Download", inputType: number, outputType: bytes, serverStreaming: true },
          {
            name: "Follow",
            inputType: number,
            outputType: bytes,
            serverStreaming: true,
            options: { idempotencyLevel: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS },
          },
          { name: "Upload", inputType: bytes, outputType: number, clientStreaming: true },
          { name: "Chat", inputType: bytes, outputType: bytes, clientStreaming: true, serverStreaming: true },
        ],
      },
    ],
  });
  const service = createFileRegistry(file, () => file_google_protobuf_wrappers).getService("flotilla.test.v1.Echo");
  if (service === undefined) {
    throw new Error("the echo service is not described");
  }
  return service;
}
