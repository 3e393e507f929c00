import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import tls from "node:tls";
import { gzipSync } from "node:zlib";
import { ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import type { ReadableSpan, SpanExporter } from "@opentelemetry/sdk-trace";
import { ErrorKind, type FlotillaError, failure, isFailure } from "#base/errors.ts";
import { readEnd } from "#wire/grpc/client-request.ts";
import { frameMessage } from "#wire/grpc/grpc-wire.ts";
import { type HeaderBytes, wholeBuffer } from "#wire/http2/data-flow.ts";
import { HeaderBlockBuilder } from "#wire/http2/header-encoder.ts";
import { ErrorCode } from "#wire/http2/protocol.ts";
import { SessionHolder } from "#wire/session-holder.ts";
import type { OtlpSettings } from "./otlp-settings.ts";

/** @source open-telemetry/opentelemetry-proto v1.9 collector/trace/v1/trace_service.proto */
const exportPath = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/** What a collector may take when it is asked again. @source OTLP specification, OTLP/gRPC response, failures */
const passing: readonly ErrorKind[] = [
  ErrorKind.Canceled,
  ErrorKind.DeadlineExceeded,
  ErrorKind.Aborted,
  ErrorKind.OutOfRange,
  ErrorKind.Unavailable,
  ErrorKind.DataLoss,
];
const retryMsMin = 500;
const retryMsMax = 5_000;

/** Sends spans to a collector by gRPC, over the fleet's own HTTP/2. What can't be sent within the time of the settings is given up. */
export class GrpcExporter implements SpanExporter {
  readonly #settings: OtlpSettings;
  readonly #sessions: SessionHolder;
  readonly #head: HeaderBytes;

  constructor(settings: OtlpSettings) {
    this.#settings = settings;
    this.#sessions = new SessionHolder({
      name: `collector ${settings.authority}`,
      heldMsMax: settings.timeoutMs,
      connect: () => connect(settings),
    });
    this.#head = encodeHead(settings);
  }

  export(spans: ReadableSpan[], done: Parameters<SpanExporter["export"]>[1]): void {
    this.#send(spans).then(
      () => done({ code: 0 }),
      (error: Error) => done({ code: 1, error }),
    );
  }

  shutdown(): Promise<void> {
    this.#sessions.close();
    return Promise.resolve();
  }

  async #send(spans: ReadableSpan[]): Promise<void> {
    const message = ProtobufTraceSerializer.serializeRequest(spans);
    if (message === undefined) {
      throw failure(ErrorKind.Internal, "spans can't be encoded");
    }
    const framed = this.#settings.isCompressed ? frameCompressed(message) : frameMessage(message);
    const over = AbortSignal.timeout(this.#settings.timeoutMs);
    for (let waitMs = retryMsMin; ; waitMs = Math.min(2 * waitMs, retryMsMax)) {
      try {
        await this.#call(framed, over);
        return;
      } catch (error) {
        if (over.aborted || !passing.some((kind) => isFailure(error, kind))) {
          throw error;
        }
        await delay(waitMs, undefined, { signal: over }).catch(() => undefined);
      }
    }
  }

  async #call(framed: Buffer, signal: AbortSignal): Promise<void> {
    const session = await this.#sessions.get(signal);
    const failed = await new Promise<FlotillaError | undefined>((resolve) => {
      const stream = session.open(this.#head, {
        onData: (_chunk, start, end, isLast) => {
          stream.consume(end - start);
          if (isLast) {
            resolve(readEnd(exportPath, undefined).error);
          }
        },
        onEnd: (trailers) => resolve(readEnd(exportPath, trailers).error),
        onAbort: () =>
          resolve(failure(ErrorKind.Unavailable, "connection to the collector lost", { cause: session.fault })),
      });
      stream.endWith(framed);
      const giveUp = (): void => {
        stream.reset(ErrorCode.Cancel);
        resolve(failure(ErrorKind.DeadlineExceeded, "the collector does not answer"));
      };
      signal.addEventListener("abort", giveUp, { once: true });
    });
    if (failed !== undefined) {
      throw failed;
    }
  }
}

function connect({ target, tls: files }: OtlpSettings): net.Socket {
  if (files === undefined || "path" in target) {
    return net.connect(target);
  }
  const servername = net.isIP(target.host) === 0 ? { servername: target.host } : {};
  return tls.connect({ ...target, ...files, ...servername, ALPNProtocols: ["h2"] });
}

function encodeHead({ authority, tls: files, headers, isCompressed }: OtlpSettings): HeaderBytes {
  const block = new HeaderBlockBuilder();
  const fields: (readonly [string, string])[] = [
    [":method", "POST"],
    [":scheme", files === undefined ? "http" : "https"],
    [":path", exportPath],
    [":authority", authority],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ...(isCompressed ? [["grpc-encoding", "gzip"] as const] : []),
    ...headers,
  ];
  for (const [name, value] of fields) {
    block.add(name, value, 0x00);
  }
  return wholeBuffer(block.build());
}

/** @source grpc/grpc doc/PROTOCOL-HTTP2.md, Compressed-Flag */
function frameCompressed(message: Uint8Array): Buffer {
  const framed = frameMessage(gzipSync(message));
  framed[0] = 1;
  return framed;
}
