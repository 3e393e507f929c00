import type { DescMethodUnary } from "@bufbuild/protobuf";
import { Code, type ConnectError, createConnectRouter, createContextValues } from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { failureOf, toConnectError } from "../errors.ts";
import { canceled, trailersOnly } from "../grpc/answers.ts";
import { RequestQueue } from "../grpc/request-queue.ts";
import type { CallContext } from "../grpc/server-call.ts";
import { wholeBuffer } from "../http2/data-flow.ts";
import type { EndpointStream } from "../http2/endpoint-stream.ts";
import { encodeHeaderBlock } from "../http2/header-encoder.ts";
import type { HeaderList } from "../http2/header-list.ts";
import { ErrorCode } from "../http2/protocol.ts";
import type { StreamEvents } from "../http2/stream-events.ts";
import type { MessageLimits } from "../message-limits.ts";
import type { MethodTable } from "../method-table.ts";
import type { CallUnderWay, CallWatcher } from "../observe.ts";
import { adaptHandler, type CallSource, sourceKey } from "./adapted-handler.ts";
import { acceptedCompression } from "./compression.ts";
import { jsonRegistry } from "./opaque-values.ts";

/**
 * Answers calls by all protocols that Connect knows (its own, gRPC-web, gRPC with compression) on the streams of the fleet's
 * own engine. A module of its own, loaded at the first call that needs it.
 */
export class UniversalHandlers {
  readonly #handlers = new Map<string, UniversalHandler>();
  readonly #context: CallContext;

  constructor(methods: MethodTable, context: CallContext, limits: MessageLimits) {
    this.#context = context;
    const router = createConnectRouter({
      acceptCompression: acceptedCompression,
      jsonOptions: { registry: jsonRegistry },
      readMaxBytes: limits.receivedBytes,
      writeMaxBytes: limits.sentBytes,
    });
    for (const served of methods.values()) {
      const report = (thrown: unknown): ConnectError => {
        context.observer?.failed?.({ rpc: served.path, error: failureOf(thrown) });
        return toConnectError(thrown);
      };
      router.rpc(served.method as DescMethodUnary, adaptHandler(served, report) as never);
    }
    for (const handler of router.handlers) {
      this.#handlers.set(handler.requestPath, handler);
    }
  }

  /** Answers a call. What has come of its body so far, and its end, are given to the events of the stream afterwards. */
  serve(stream: EndpointStream, request: HeaderList): void {
    const { path } = request.request;
    const query = path.indexOf("?");
    const rpc = query === -1 ? path : path.slice(0, query);
    const handler = this.#handlers.get(rpc);
    if (handler === undefined) {
      stream.events = ignoredBody(stream);
      stream.endWithHeaders(
        trailersOnly(failureOf(new FlotillaError(ErrorKind.NotImplemented, "unknown service or method"))),
      );
      return;
    }
    const watcher = this.#context.observer?.start?.("server", rpc, request);
    new UniversalCall(stream, request, this.#context, watcher).run(handler);
  }
}

/** A body that nobody reads. */
export function ignoredBody(stream: EndpointStream): StreamEvents {
  return {
    onData: (_chunk, start, end) => stream.consume(end - start),
    onEnd: () => undefined,
    onAbort: () => undefined,
  };
}

class UniversalCall implements StreamEvents {
  readonly #stream: EndpointStream;
  readonly #request: HeaderList;
  readonly #context: CallContext;
  readonly #beganMs: number = performance.now();
  readonly #watcher: CallWatcher | undefined;
  readonly #source: CallSource;
  readonly #controller = new AbortController();
  readonly #body: RequestQueue<Uint8Array>;
  #drained: (() => void) | undefined;

  constructor(stream: EndpointStream, request: HeaderList, context: CallContext, watcher: CallWatcher | undefined) {
    this.#stream = stream;
    this.#request = request;
    this.#context = context;
    this.#watcher = watcher;
    this.#source = { request, stream, watcher, code: undefined };
    this.#body = new RequestQueue(
      (piece) => piece,
      (sizeBytes) => stream.consume(sizeBytes),
    );
    stream.events = this;
  }

  get call(): CallUnderWay {
    return { rpc: this.#request.request.path, beganMs: this.#beganMs };
  }

  run(handler: UniversalHandler): void {
    const run = this.#watcher?.run;
    (run === undefined ? this.#answer(handler) : run(() => this.#answer(handler)))
      .catch(() => this.#stream.reset(ErrorCode.InternalError))
      .finally(() => {
        void this.#body.return();
        // A call that no handler saw could not even be read.
        this.#watcher?.end(this.#source.code ?? Code.InvalidArgument, this.#beganMs);
      });
  }

  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    this.#stream.keepChunk();
    this.#body.push(start === end ? [] : [chunk.subarray(start, end)], end - start);
    if (isLast) {
      this.onEnd();
    }
  }

  onEnd(): void {
    this.#body.end();
  }

  onAbort(): void {
    const reason = toConnectError(this.#context.stopReason ?? canceled());
    this.#controller.abort(reason);
    this.#body.fail(reason);
    this.#drained?.();
  }

  onDrained(): void {
    this.#drained?.();
  }

  async #answer(handler: UniversalHandler): Promise<void> {
    const { method, path } = this.#request.request;
    const header = new Headers();
    const { fields } = this.#request;
    for (let at = 0; at < fields.length; at += 2) {
      const name = fields[at] as string;
      if (!name.startsWith(":")) {
        header.append(name, fields[at + 1] as string);
      }
    }
    const response = await handler({
      httpVersion: "2.0",
      url: new URL(path, "http://localhost").toString(),
      method,
      header,
      body: this.#body,
      signal: this.#controller.signal,
      contextValues: createContextValues().set(sourceKey, this.#source),
    });
    await this.#send(response);
  }

  async #send({ status, header, body, trailer }: UniversalServerResponse): Promise<void> {
    const stream = this.#stream;
    let isBegun = false;
    const begin = (): void => {
      isBegun = true;
      stream.sendHeaders(wholeBuffer(encodeHeaderBlock([[":status", String(status)], ...entriesOf(header)])));
    };
    for await (const piece of body ?? []) {
      // The implementation may set fields until it gives its first piece.
      if (!isBegun) {
        begin();
      }
      stream.write(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
      if (stream.isSlow && !stream.isOver) {
        await new Promise<void>((resolve) => {
          this.#drained = resolve;
        });
      }
    }
    if (!isBegun) {
      begin();
    }
    const trailers = entriesOf(trailer);
    if (trailers.length > 0) {
      stream.endWithHeaders(wholeBuffer(encodeHeaderBlock(trailers)));
    } else {
      stream.end();
    }
  }
}

function entriesOf(headers: Headers | undefined): [name: string, value: string][] {
  return headers === undefined ? [] : [...headers.entries()];
}
