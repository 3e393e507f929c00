import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type net from "node:net";
import { gunzipSync } from "node:zlib";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** A span that a collector was sent. */
export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** "" for the first of a trace. */
  readonly parentSpanId: string;
  readonly name: string;
  /** 1 internal, 2 server, 3 client. */
  readonly kind: number;
  readonly attributes: ReadonlyMap<string, string>;
  readonly isFailed: boolean;
  /** Attributes of what has sent it. */
  readonly resource: ReadonlyMap<string, string>;
}

/** A collector of traces, as far as OTLP over HTTP needs one. */
export interface TraceCollector extends AsyncDisposable {
  /** For `OTEL_EXPORTER_OTLP_ENDPOINT`. */
  readonly endpoint: string;
  readonly spans: readonly CollectedSpan[];
}

/** Starts a collector on a port of its own. @source open-telemetry/opentelemetry-proto v1.9 collector/trace/v1, trace/v1 */
export async function startTraceCollector(): Promise<TraceCollector> {
  const spans: CollectedSpan[] = [];
  const server = http.createServer((request, response) => {
    request.toArray().then(
      (chunks: Buffer[]) => {
        const body = Buffer.concat(chunks);
        const isRight = request.url === "/v1/traces" && request.headers["content-type"] === "application/x-protobuf";
        if (isRight) {
          spans.push(...readRequest(request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body));
        }
        response.writeHead(isRight ? 200 : 400, { "content-type": "application/x-protobuf" }).end();
      },
      () => response.destroy(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  return {
    endpoint: `http://127.0.0.1:${port}`,
    spans,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** A collector of traces by gRPC. */
export interface GrpcTraceCollector extends TraceCollector {
  /** The head of each request. */
  readonly heads: readonly http2.IncomingHttpHeaders[];
  /** Codes that the next requests are answered with, in their order; 0 for those after them. */
  readonly answers: number[];
}

/** Starts a collector that speaks gRPC, in the clear unless certificates are given. It stands on Node.js's own HTTP/2. */
export async function startGrpcTraceCollector(secure?: http2.SecureServerOptions): Promise<GrpcTraceCollector> {
  const spans: CollectedSpan[] = [];
  const heads: http2.IncomingHttpHeaders[] = [];
  const answers: number[] = [];
  const sessions = new Set<http2.ServerHttp2Session>();
  const server = secure === undefined ? http2.createServer() : http2.createSecureServer(secure);
  server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  server.on("stream", (stream: http2.ServerHttp2Stream, head: http2.IncomingHttpHeaders) => {
    heads.push(head);
    stream.on("error", () => undefined);
    stream.toArray().then(
      (chunks: Buffer[]) => {
        const body = Buffer.concat(chunks);
        const message = body.subarray(5);
        const code = answers.shift() ?? 0;
        if (code === 0) {
          spans.push(...readRequest(body[0] === 1 ? gunzipSync(message) : message));
        }
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.on("wantTrailers", () =>
          stream.sendTrailers({ "grpc-status": String(code), "grpc-message": `code%20${code}` }),
        );
        stream.end(Buffer.alloc(5));
      },
      () => stream.close(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  return {
    endpoint: `${secure === undefined ? "http" : "https"}://127.0.0.1:${port}`,
    spans,
    heads,
    answers,
    [Symbol.asyncDispose]: async () => {
      sessions.forEach((session) => session.destroy());
      server.close();
      await once(server, "close");
    },
  };
}

/** The fields of a message by their numbers, bytes and numbers alike. */
function fieldsOf(bytes: Uint8Array): Map<number, (Uint8Array | number)[]> {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, (Uint8Array | number)[]>();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const values = fields.get(field) ?? [];
    fields.set(field, values);
    if (type === WireType.LengthDelimited) {
      values.push(reader.bytes());
    } else if (type === WireType.Varint) {
      values.push(Number(reader.uint64()));
    } else {
      reader.skip(type);
    }
  }
  return fields;
}

function parts(fields: ReturnType<typeof fieldsOf>, field: number): Uint8Array[] {
  return (fields.get(field) ?? []).filter((value) => typeof value !== "number");
}

function text(fields: ReturnType<typeof fieldsOf>, field: number, encoding: BufferEncoding): string {
  return Buffer.from(parts(fields, field)[0] ?? []).toString(encoding);
}

function attributesOf(fields: ReturnType<typeof fieldsOf>, field: number): Map<string, string> {
  return new Map(
    parts(fields, field).map((bytes) => {
      const pair = fieldsOf(bytes);
      return [text(pair, 1, "utf8"), text(fieldsOf(parts(pair, 2)[0] ?? new Uint8Array()), 1, "utf8")];
    }),
  );
}

function readRequest(body: Uint8Array): CollectedSpan[] {
  return parts(fieldsOf(body), 1).flatMap((resourceSpans) => {
    const fields = fieldsOf(resourceSpans);
    const resource = attributesOf(fieldsOf(parts(fields, 1)[0] ?? new Uint8Array()), 1);
    return parts(fields, 2).flatMap((scopeSpans) =>
      parts(fieldsOf(scopeSpans), 2).map((bytes): CollectedSpan => {
        const span = fieldsOf(bytes);
        const status = fieldsOf(parts(span, 15)[0] ?? new Uint8Array());
        return {
          traceId: text(span, 1, "hex"),
          spanId: text(span, 2, "hex"),
          parentSpanId: text(span, 4, "hex"),
          name: text(span, 5, "utf8"),
          kind: Number(span.get(6)?.[0] ?? 0),
          attributes: attributesOf(span, 9),
          isFailed: status.get(3)?.[0] === 2,
          resource,
        };
      }),
    );
  });
}
