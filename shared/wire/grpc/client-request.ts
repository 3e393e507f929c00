import type { DescMethod } from "@bufbuild/protobuf";
import type { Code } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { timerMsMax } from "#base/limits.ts";
import { callHeader } from "../call-id.ts";
import { codeOfSuccess, kindOf } from "../errors.ts";
import { type HeaderBytes, wholeBuffer } from "../http2/data-flow.ts";
import { encodeHeaderBlock, HeaderBlockBuilder } from "../http2/header-encoder.ts";
import type { HeaderList } from "../http2/header-list.ts";
import type { CallObserver, CallWatcher } from "../observe.ts";
import { abortReason } from "../session-holder.ts";
import { decodeGrpcMessage } from "./grpc-wire.ts";

/** What is said about a call besides its messages. */
export interface ClientCallOptions {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
  readonly header: ConstructorParameters<typeof Headers>[0];
  readonly observer: CallObserver | undefined;
  /** Whether the other side keeps what became of calls. */
  readonly keepsCalls?: boolean;
  /** What the observer wants to be sent besides. */
  readonly fields?: CallWatcher["fields"];
  /** Which call this is, as the header tells it, when it is made again. */
  readonly call?: string;
}

/** The fields that every call of a method begins with, encoded. */
const methodFields = new WeakMap<DescMethod, Buffer>();

/** `/package.Service/Method`. */
export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Encodes the head of a request. */
export function encodeRequestHead(
  method: DescMethod,
  { header, timeoutMs, fields: more, call }: ClientCallOptions,
): HeaderBytes {
  let fields = methodFields.get(method);
  if (fields === undefined) {
    fields = encodeHeaderBlock([
      [":method", "POST"],
      [":scheme", "http"],
      [":path", pathOf(method)],
      [":authority", "localhost"],
      ["content-type", "application/grpc"],
      ["te", "trailers"],
    ]);
    methodFields.set(method, fields);
  }
  if (header === undefined && timeoutMs === undefined && more === undefined && call === undefined) {
    return wholeBuffer(fields);
  }
  const block = new HeaderBlockBuilder();
  block.addEncoded(fields, 0, fields.length);
  for (const [name, value] of [...headerEntries(header), ...(more ?? [])]) {
    if (name !== callHeader || call === undefined) {
      block.add(name, value, 0x00);
    }
  }
  if (call !== undefined) {
    block.add(callHeader, call, 0x00);
  }
  if (timeoutMs !== undefined) {
    block.add("grpc-timeout", `${Math.min(timeoutUnitsMax, Math.max(1, Math.round(timeoutMs)))}m`, 0x00);
  }
  return wholeBuffer(block.build());
}

/** The headers of a call with small names. Without `Headers`, whose first use loads the whole of fetch: 20 ms, 4 MiB. */
function headerEntries(header: ClientCallOptions["header"]): [string, string][] {
  const entries: Iterable<readonly (string | undefined)[]> =
    header === undefined ? [] : Symbol.iterator in header ? header : Object.entries(header);
  return Array.from(entries, ([name = "", value = ""]) => [name.toLowerCase(), value]);
}

/** The value of a header of a call, by its small name. */
export function findField(header: ClientCallOptions["header"], name: string): string | undefined {
  return headerEntries(header).find(([each]) => each === name)?.[1];
}

/** @source grpc/grpc doc/PROTOCOL-HTTP2.md, TimeoutValue: at most 8 digits */
const timeoutUnitsMax = 99_999_999;

/** Tells the observer of a call that begins. */
export function watchCall(method: DescMethod, { observer, header }: ClientCallOptions): CallWatcher | undefined {
  return observer?.start?.("client", pathOf(method), {
    find: (name) => findField(header, name),
  });
}

/**
 * Calls back when the caller gives a call up or its time is over.
 *
 * @returns What ends the watch.
 */
export function watchEnd(
  { signal, timeoutMs }: ClientCallOptions,
  giveUp: (reason: FlotillaError) => void,
): () => void {
  const onAbort = (): void => giveUp(abortReason(signal));
  const passed = (): void => giveUp(new FlotillaError(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded));
  const deadline = timeoutMs === undefined ? undefined : setTimeout(passed, Math.min(timeoutMs, timerMsMax));
  signal?.addEventListener("abort", onAbort, { once: true });
  return () => {
    clearTimeout(deadline);
    signal?.removeEventListener("abort", onAbort);
  };
}

/** How a call ended, by the fields that ended it. */
export interface CallEnd {
  /** Undefined where there is no status. */
  readonly code: Code | undefined;
  /** What went wrong, if something did. */
  readonly error: FlotillaError | undefined;
}

/** Reads how a call ended. */
export function readEnd(rpc: string, trailers: HeaderList | undefined): CallEnd {
  const status = trailers?.find("grpc-status");
  if (status === undefined) {
    return { code: undefined, error: failure(ErrorKind.Internal, `${rpc} ended without a status`) };
  }
  const code = Number(status);
  if (code === codeOfSuccess) {
    return { code, error: undefined };
  }
  const message = decodeGrpcMessage(trailers?.find("grpc-message") ?? "");
  return { code, error: new FlotillaError(kindOf(code, message), message) };
}
