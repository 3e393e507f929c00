import { AsyncLocalStorage } from "node:async_hooks";
import { errorMessage } from "#base/errors.ts";
import { codeOfSuccess } from "#wire/errors.ts";
import type { CallObserver, CallSide, CallWatcher, RequestFields } from "#wire/observe.ts";
import {
  formatTraceparent,
  newSpanId,
  newTraceId,
  readTraceContext,
  type TraceContext,
  traceparentField,
} from "./trace-context.ts";

/** Spans that wait to be fetched; beyond them new ones are lost and counted. */
const spansMax = 8_192;
/** Spans that are fetched at a time. */
const takenMax = 512;

/** Which part something has in a call; `internal` in none. */
export type SpanKind = "server" | "client" | "internal";

/** Something that took some time and is over. */
export interface SpanRecord {
  readonly traceId: string;
  readonly spanId: string;
  /** "" for the first of a trace. */
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: SpanKind;
  /** In milliseconds since 1970. */
  readonly beganMs: number;
  readonly endedMs: number;
  readonly attributes: Readonly<Record<string, string>>;
  /** Why it failed, if it did. */
  readonly failure: string | undefined;
}

/** Decides whether a trace that begins here, or one that was begun elsewhere, is recorded. */
export type Sampling = (traceId: string, parent: TraceContext | undefined) => boolean;

/** Traces that were begun elsewhere are recorded if it says so, and none begins here. For processes behind the gateway. */
export const followOnly: Sampling = (_traceId, parent) => parent?.isSampled === true;

/**
 * Records what a process does as spans, each below the one within which it was begun. Spans wait here until the gateway fetches them, which
 * alone speaks to the collector.
 */
export class Tracer {
  /** Traces calls that are answered, made and passed on. */
  readonly observer: CallObserver;
  readonly #sampling: Sampling;
  readonly #current = new AsyncLocalStorage<TraceContext>();
  #finished: SpanRecord[] = [];
  #lost = 0;
  #onSpan: (() => void) | undefined;

  constructor(sampling: Sampling) {
    this.#sampling = sampling;
    this.observer = { start: (side, rpc, fields) => this.#watchCall(side, rpc, fields) };
  }

  /** Where what is being done belongs. */
  get current(): TraceContext | undefined {
    return this.#current.getStore();
  }

  /** Spans that were lost, since nobody fetched them. */
  get lost(): number {
    return this.#lost;
  }

  /**
   * Tells of something as a span of its own. What is begun by it, such as a socket or a loop, goes on for as long as the process, and does not count
   * as done on its behalf.
   *
   * @param work - Gets its place in the trace, for what is to stand below it.
   */
  async trace<T>(
    name: string,
    attributes: SpanRecord["attributes"],
    work: (context: TraceContext | undefined) => Promise<T> | T,
    parent: TraceContext | undefined,
  ): Promise<T> {
    const span = this.#begin(name, "internal", attributes, parent);
    if (span === undefined) {
      return await work(undefined);
    }
    try {
      const result = await work(span.context);
      span.end(undefined);
      return result;
    } catch (error) {
      span.end(errorMessage(error));
      throw error;
    }
  }

  /** The spans that are over; waits until there is one. Empty when the signal aborts. */
  async take(signal: AbortSignal): Promise<readonly SpanRecord[]> {
    if (this.#finished.length === 0 && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onSpan = resolve;
      signal.addEventListener("abort", () => resolve(), { once: true });
      await promise;
    }
    return this.#finished.splice(0, takenMax);
  }

  #watchCall(side: CallSide, rpc: string, fields: RequestFields): CallWatcher | undefined {
    const parent = side === "client" ? this.current : readTraceContext((name) => fields.find(name));
    if (side === "client" && parent === undefined) {
      return undefined;
    }
    const [, service = "", method = ""] = rpc.split("/");
    const attributes = { "rpc.system": "grpc", "rpc.service": service, "rpc.method": method };
    const span = this.#begin(rpc.slice(1), side === "client" ? "client" : "server", attributes, parent);
    if (span === undefined) {
      return undefined;
    }
    const { context } = span;
    return {
      requestMessage: () => undefined,
      responseMessage: () => undefined,
      end: (code) => {
        const isFailed = code !== undefined && code !== codeOfSuccess;
        span.end(
          isFailed ? `code ${code}` : undefined,
          code === undefined ? {} : { "rpc.grpc.status_code": String(code) },
        );
      },
      ...(side === "server"
        ? { run: (work) => this.#current.run(context, work) }
        : { fields: [[traceparentField, formatTraceparent(context)], ...(side === "client" ? context.carried : [])] }),
    };
  }

  #begin(
    name: string,
    kind: SpanKind,
    attributes: SpanRecord["attributes"],
    parent: TraceContext | undefined,
  ): OpenSpan | undefined {
    const traceId = parent?.traceId ?? newTraceId();
    if (!this.#sampling(traceId, parent)) {
      return undefined;
    }
    const context = { traceId, spanId: newSpanId(), isSampled: true, carried: parent?.carried ?? [] };
    const beganMs = nowMs();
    return {
      context,
      end: (failure, more = {}) =>
        this.#finish({
          traceId,
          spanId: context.spanId,
          parentSpanId: parent?.spanId ?? "",
          name,
          kind,
          beganMs,
          endedMs: nowMs(),
          attributes: { ...attributes, ...more },
          failure,
        }),
    };
  }

  #finish(span: SpanRecord): void {
    if (this.#finished.length >= spansMax) {
      this.#lost += 1;
      return;
    }
    this.#finished.push(span);
    this.#onSpan?.();
    this.#onSpan = undefined;
  }
}

interface OpenSpan {
  readonly context: TraceContext;
  end(failure: string | undefined, more?: SpanRecord["attributes"]): void;
}

/** With fractions, so that short spans have a length. */
function nowMs(): number {
  return performance.timeOrigin + performance.now();
}
