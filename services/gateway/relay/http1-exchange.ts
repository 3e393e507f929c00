import type http from "node:http";
import { callHeader } from "#wire/call-id.ts";
import type { ClientSession } from "#wire/http2/client-session.ts";
import { type HeaderBytes, wholeBuffer } from "#wire/http2/data-flow.ts";
import type { EndpointStream } from "#wire/http2/endpoint-stream.ts";
import { HeaderBlockBuilder } from "#wire/http2/header-encoder.ts";
import type { HeaderList } from "#wire/http2/header-list.ts";
import { ErrorCode } from "#wire/http2/protocol.ts";
import type { StreamEvents } from "#wire/http2/stream-events.ts";
import type { CallWatcher } from "#wire/observe.ts";
import type { AuditedCall } from "./access.ts";

/** Headers that concern one connection only, and what only we say. @source RFC 9110 section 7.6.1, RFC 9113 section 8.2.2 */
const hopHeaders = new Set([
  callHeader,
  "connection",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** A request of HTTP/1.1 and what answers it. */
export interface Http1Call {
  readonly request: http.IncomingMessage;
  readonly response: http.ServerResponse;
  /** The whole body, if it was kept so that it can be sent again. */
  readonly kept: Buffer | undefined;
  /** Fields that go with it in place of the client's of the same names. */
  readonly fields: CallWatcher["fields"];
  /** Looks at the request, if somebody does. */
  readonly audited: AuditedCall | undefined;
  /** Which call this is, as the header tells it, when it is sent again. */
  readonly id: string | undefined;
  /** Aborts when the client is gone. */
  readonly gone: AbortSignal;
}

/**
 * What became of one try: over, or lost before the response began, after the service may have done something with it under this id, or certainly
 * has not.
 */
export type Outcome = "over" | "untouched" | { readonly lost: string };

/** Makes one try. */
export function exchange(session: ClientSession, call: Http1Call): Promise<Outcome> {
  return new Promise((resolve) => {
    new Exchange(call, resolve).begin(session);
  });
}

class Exchange implements StreamEvents {
  readonly #call: Http1Call;
  readonly #resolve: (outcome: Outcome) => void;
  #session: ClientSession | undefined;
  #stream: EndpointStream | undefined;
  #hasResponse = false;
  readonly #cancel = (): void => this.#stream?.reset(ErrorCode.Cancel);
  readonly #sendPiece = (chunk: Buffer): void => {
    this.#call.audited?.requestBytes(chunk, 0, chunk.length);
    this.#stream?.write(chunk);
    if (this.#stream?.isSlow === true && !this.#stream.isOver) {
      this.#call.request.pause();
    }
  };
  readonly #sendEnd = (): void => this.#stream?.end();

  constructor(call: Http1Call, resolve: (outcome: Outcome) => void) {
    this.#call = call;
    this.#resolve = resolve;
  }

  begin(session: ClientSession): void {
    const { request, kept, gone } = this.#call;
    const stream = session.open(encodeRequestHead(this.#call), this);
    this.#session = session;
    this.#stream = stream;
    gone.addEventListener("abort", () => this.#end("over"), { once: true });
    if (kept !== undefined) {
      stream.endWith(kept);
      return;
    }
    request.on("data", this.#sendPiece);
    request.once("end", this.#sendEnd);
    request.once("error", this.#cancel);
  }

  onHeaders(list: HeaderList): void {
    const status = Number(list.find(":status"));
    if (status >= 200) {
      this.#begin(list, status);
      this.#call.response.flushHeaders();
    }
  }

  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    const stream = this.#stream as EndpointStream;
    const held = stream.keepChunk();
    this.#call.response.write(chunk.subarray(start, end), () => {
      held?.release();
      stream.consume(end - start);
    });
    if (isLast) {
      this.onEnd(undefined);
    }
  }

  onEnd(trailers: HeaderList | undefined): void {
    const { response } = this.#call;
    if (!this.#hasResponse) {
      this.#begin(trailers, Number(trailers?.find(":status") ?? 502));
    } else if (trailers !== undefined) {
      response.addTrailers(pairsOf(trailers));
    }
    response.end();
    this.#end("over");
  }

  onAbort(code: number | undefined): void {
    if (this.#hasResponse) {
      this.#call.response.destroy();
      this.#end("over");
    } else {
      const isUntouched = code === ErrorCode.RefusedStream || this.#session?.hasAnswered === false;
      this.#end(isUntouched ? "untouched" : { lost: this.#stream?.callId ?? "" });
    }
  }

  onDrained(): void {
    if (this.#call.kept === undefined) {
      this.#call.request.resume();
    }
  }

  #begin(list: HeaderList | undefined, status: number): void {
    this.#hasResponse = true;
    this.#call.response.writeHead(status, list === undefined ? [] : pairsOf(list).flat());
  }

  #end(outcome: Outcome): void {
    const { request } = this.#call;
    request.off("data", this.#sendPiece);
    request.off("end", this.#sendEnd);
    request.off("error", this.#cancel);
    request.resume();
    this.#stream?.reset(ErrorCode.Cancel);
    this.#resolve(outcome);
  }
}

function encodeRequestHead({ request, fields: more = [], id }: Http1Call): HeaderBytes {
  const block = new HeaderBlockBuilder();
  block.add(":method", request.method ?? "POST", 0x00);
  block.add(":scheme", "http", 0x00);
  block.add(":path", request.url ?? "/", 0x00);
  block.add(":authority", request.headers.host ?? "localhost", 0x00);
  const named = (request.headers.connection ?? "").toLowerCase().split(/\s*,\s*/);
  const { rawHeaders } = request;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase();
    if (!hopHeaders.has(name) && !named.includes(name) && !more.some(([replaced]) => replaced === name)) {
      block.add(name, rawHeaders[at + 1] as string, 0x00);
    }
  }
  for (const [name, value] of more) {
    block.add(name, value, 0x00);
  }
  if (id !== undefined) {
    block.add(callHeader, id, 0x00);
  }
  return wholeBuffer(block.build());
}

function pairsOf({ fields }: HeaderList): [name: string, value: string][] {
  const pairs: [string, string][] = [];
  for (let at = 0; at < fields.length; at += 2) {
    const name = fields[at] as string;
    if (!name.startsWith(":")) {
      pairs.push([name, fields[at + 1] as string]);
    }
  }
  return pairs;
}
