import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { type ProcessName, privateSocketOf } from "#fleet/process-name.ts";
import type { SpanKind, SpanRecord, Tracer } from "#fleet/tracing/tracer.ts";
import { Member, type Span } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { connectRpc } from "#wire/client.ts";

/** Time between two tries to reach a process that does not run. */
const retryMs = 500;

export interface TraceCollectorOptions {
  readonly state: string;
  /** The processes besides the gateway. */
  readonly processes: readonly ProcessName[];
  /** That of the gateway itself. */
  readonly tracer: Tracer;
  /** Gets the spans of each process. */
  readonly onSpans: (process: ProcessName, spans: readonly SpanRecord[]) => void;
}

/**
 * Fetches the spans of all processes. So none of them but this one speaks to a collector, and those that have no network and few rights are traced as
 * well as the others.
 */
export class TraceCollector implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #running: Promise<unknown>;

  constructor({ state, processes, tracer, onSpans }: TraceCollectorOptions) {
    const follow = processes.map((name) => this.#follow(name, privateSocketOf(state, name), onSpans));
    this.#running = Promise.all([...follow, this.#followOwn(tracer, onSpans)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #followOwn(tracer: Tracer, onSpans: TraceCollectorOptions["onSpans"]): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      onSpans("gateway", await tracer.take(signal));
      if (signal.aborted) {
        return;
      }
    }
  }

  /** A process that ends is met again when it is back. */
  async #follow(name: ProcessName, socketPath: string, onSpans: TraceCollectorOptions["onSpans"]): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const connection = connectRpc(socketPath, { heldMsMax: 0 });
      try {
        for await (const { spans } of createClient(Member, connection.transport).trace({}, { signal })) {
          onSpans(name, spans.map(recordOf));
        }
      } catch {
        // It does not run, or has just ended.
      } finally {
        connection.close();
      }
      await delay(retryMs, undefined, { signal }).catch(() => undefined);
    }
  }
}

function recordOf(span: Span): SpanRecord {
  return { ...span, kind: span.kind as SpanKind, failure: span.failure };
}
