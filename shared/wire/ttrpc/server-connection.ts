import type { Duplex } from "node:stream";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { timerMsMax } from "#base/limits.ts";
import type { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { type Request, RequestSchema, ResponseSchema } from "#gen/ttrpc/ttrpc_pb.ts";
import { codeOf, codeOfSuccess, failureOf } from "../errors.ts";
import type { Call } from "../handler.ts";
import { namespaceHeader } from "../headers.ts";
import type { CallObserver } from "../observe.ts";
import { encodeFrame, type Frame, FrameParser, FrameType, type OversizedFrame, oversizedMessage } from "./frame.ts";
import { callMethod, type MethodTable, type ServedMethod } from "./methods.ts";
import { ttrpcNamespaceHeader } from "./status.ts";

/** How many calls of one connection run at the same time unless the options say otherwise. */
const concurrentCallsMaxDefault = 256;

/** How a connection is served. */
export interface ServerConnectionOptions {
  /** Told of every call. */
  readonly observer?: CallObserver;
  /** Calls of one connection that run at the same time, 256 unless given. Beyond them the connection is not read. */
  readonly concurrentCallsMax?: number;
}

/** The connection of a client of ttrpc: its calls, and how many run at a time. */
export class ServerConnection {
  readonly #socket: Duplex;
  readonly #methods: MethodTable;
  readonly #options: ServerConnectionOptions;
  readonly #parser = new FrameParser();
  readonly #running = new Set<AbortController>();
  #lastStreamId = 0;
  #closing = false;

  constructor(socket: Duplex, methods: MethodTable, options: ServerConnectionOptions) {
    this.#socket = socket;
    this.#methods = methods;
    this.#options = options;
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("end", () => socket.end());
    socket.on("drain", () => this.#adjustFlow());
    socket.once("close", () => this.#abort(new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled)));
  }

  closeWhenIdle(): void {
    this.#closing = true;
    this.#adjustFlow();
  }

  /** Fails what runs and closes as soon as these answers are on their way. */
  destroy(reason: Error): void {
    this.#abort(reason);
    setImmediate(() => this.#socket.end(() => this.#socket.destroy()));
  }

  #abort(reason: Error): void {
    for (const controller of this.#running) {
      controller.abort(reason);
    }
  }

  /** Reads on as long as there is room for another call and the peer takes its answers. */
  #adjustFlow(): void {
    if (this.#closing && this.#running.size === 0) {
      this.#socket.end();
    }
    const isFull = this.#running.size >= (this.#options.concurrentCallsMax ?? concurrentCallsMaxDefault);
    if (this.#closing || isFull || this.#socket.writableNeedDrain) {
      this.#socket.pause();
    } else if (this.#socket.isPaused()) {
      this.#socket.resume();
    }
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#parser.push(chunk)) {
        this.#accept(frame);
      }
    } catch (error) {
      this.#socket.destroy(error instanceof Error ? error : undefined);
      return;
    }
    this.#adjustFlow();
  }

  #accept(frame: Frame | OversizedFrame): void {
    if ("oversizedBytes" in frame) {
      this.#answer(frame.streamId, statusOf(oversizedMessage(frame.oversizedBytes)));
    } else if (frame.streamId % 2 !== 1) {
      this.#refuse(frame.streamId, "StreamID must be odd for client initiated streams");
    } else if (frame.type === FrameType.Data) {
      this.#refuse(frame.streamId, "StreamID is no longer active");
    } else if (frame.type === FrameType.Request) {
      this.#acceptRequest(frame);
    }
  }

  #acceptRequest(frame: Frame): void {
    if (frame.streamId <= this.#lastStreamId) {
      this.#refuse(frame.streamId, "StreamID cannot be re-used and must increment");
      return;
    }
    this.#lastStreamId = frame.streamId;
    let request: Request;
    try {
      request = fromBinary(RequestSchema, frame.data);
    } catch (error) {
      this.#refuse(frame.streamId, `unmarshal request error: ${String(error)}`);
      return;
    }
    const methods = this.#methods.get(request.service);
    const served = methods?.get(request.method);
    if (served === undefined) {
      const message = methods === undefined ? `service ${request.service}` : `method ${request.method}`;
      this.#answer(frame.streamId, { code: Code.Unimplemented, message });
      return;
    }
    void this.#run(frame.streamId, request, served);
  }

  async #run(streamId: number, request: Request, served: ServedMethod): Promise<void> {
    const controller = new AbortController();
    this.#running.add(controller);
    const timeoutMs = Number(request.timeoutNano) / 1e6;
    const deadline =
      timeoutMs > 0
        ? setTimeout(
            () => controller.abort(new FlotillaError(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded)),
            Math.min(timeoutMs, timerMsMax),
          )
        : undefined;
    const { method } = served;
    const header = headerOf(request);
    const { signal } = controller;
    const rpc = `/${method.parent.typeName}/${method.name}`;
    const { observer } = this.#options;
    const beganMs = performance.now();
    const watcher = observer?.start?.("server", rpc, { find: header });
    watcher?.requestMessage(request.payload.byteLength);
    try {
      const call = (): Promise<Uint8Array> => callMethod(served, request.payload, { header, signal });
      const answer = await settleOrAbort(watcher?.run === undefined ? call() : watcher.run(call), signal);
      watcher?.responseMessage(answer.byteLength);
      watcher?.end(codeOfSuccess, beganMs);
      this.#answer(streamId, undefined, answer);
    } catch (thrown) {
      const error = failureOf(thrown);
      observer?.failed?.({ rpc, error });
      watcher?.end(error.code, beganMs);
      this.#answer(streamId, { code: error.code, message: error.message });
    } finally {
      clearTimeout(deadline);
      this.#running.delete(controller);
      this.#adjustFlow();
    }
  }

  #refuse(streamId: number, message: string): void {
    this.#answer(streamId, { code: Code.InvalidArgument, message });
  }

  #answer(streamId: number, status: MessageInitShape<typeof StatusSchema> | undefined, payload?: Uint8Array): void {
    if (!this.#socket.writable) {
      return;
    }
    const response = create(ResponseSchema, {
      ...(status === undefined ? {} : { status }),
      ...(payload === undefined ? {} : { payload }),
    });
    this.#socket.write(
      encodeFrame({ streamId, type: FrameType.Response, flags: 0, data: toBinary(ResponseSchema, response) }),
    );
  }
}

function headerOf(request: Request): Call["header"] {
  const find = (name: string): string | undefined => request.metadata.find(({ key }) => key === name)?.value;
  return (name) => find(name) ?? (name === namespaceHeader ? find(ttrpcNamespaceHeader) : undefined);
}

/** The answer, or the signal's reason if that comes first. */
function settleOrAbort<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    answer.then(resolve, reject);
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
}

function statusOf(error: FlotillaError): MessageInitShape<typeof StatusSchema> {
  return { code: codeOf(error.kind), message: error.message };
}
