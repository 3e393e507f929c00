import { setTimeout as delay } from "node:timers/promises";
import { type HrTime, SpanKind, SpanStatusCode, TraceFlags } from "@opentelemetry/api";
import { type Resource, resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, type ReadableSpan, type SpanExporter } from "@opentelemetry/sdk-trace";
import type { Logger } from "#fleet/log.ts";
import { otlpProtocol } from "#fleet/tracing/open-tracer.ts";
import type { SpanRecord } from "#fleet/tracing/tracer.ts";
import { daemonVersion } from "#fleet/version.ts";

/** Spans are sent after so long, so that a trace is whole soon after it has ended. */
const delayMs = 500;
/** How long the stop of the daemon waits for the last of them. */
const flushMsMax = 2_000;

const kinds: Readonly<Record<SpanRecord["kind"], SpanKind>> = {
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  internal: SpanKind.INTERNAL,
};

/** What sends spans to a collector. */
export type TraceExporter = SpanExporter;

type Environment = Readonly<Record<string, string | undefined>>;

/** Sends the spans of all processes to a collector, as the environment says (`OTEL_EXPORTER_OTLP_…`). */
export class TraceExport implements AsyncDisposable {
  readonly #processor: BatchSpanProcessor;
  readonly #resources = new Map<string, Resource>();
  readonly #attributes: Readonly<Record<string, string>>;

  /** @param exporter - As {@link openExporter} makes it. */
  constructor(exporter: TraceExporter, environment: Environment, log: Logger) {
    this.#processor = new BatchSpanProcessor({ exporter: tellTrouble(exporter, log), scheduledDelayMillis: delayMs });
    this.#attributes = {
      ...readAttributes(environment["OTEL_RESOURCE_ATTRIBUTES"] ?? ""),
      "service.name": environment["OTEL_SERVICE_NAME"] || "containerd",
      "service.version": daemonVersion(),
    };
  }

  /** Sends spans of a process. What can't be sent is dropped, since nothing may wait for a collector. */
  add(process: string, spans: readonly SpanRecord[]): void {
    for (const span of spans) {
      this.#processor.onEnd(readable(span, this.#resourceOf(process)));
    }
  }

  /** Sends what waits, if the collector takes it soon. */
  async [Symbol.asyncDispose](): Promise<void> {
    // What went wrong has been told of; the stop of the daemon goes on.
    const sent = this.#processor.shutdown().catch(() => undefined);
    await Promise.race([sent, delay(flushMsMax, undefined, { ref: false })]);
  }

  #resourceOf(process: string): Resource {
    let resource = this.#resources.get(process);
    if (resource === undefined) {
      resource = resourceFromAttributes({ ...this.#attributes, "service.instance.id": process });
      this.#resources.set(process, resource);
    }
    return resource;
  }
}

/**
 * What sends spans by the protocol that the environment names. Only that one is loaded.
 *
 * @throws {@link FlotillaError} `invalid_argument` for settings of the environment that make no sense; why a certificate can't be read.
 */
export async function openExporter(environment: Environment): Promise<TraceExporter> {
  if (otlpProtocol(environment) === "grpc") {
    const [{ GrpcExporter }, { readOtlpSettings }] = await Promise.all([
      import("./grpc-exporter.ts"),
      import("./otlp-settings.ts"),
    ]);
    return new GrpcExporter(readOtlpSettings(environment));
  }
  const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-proto");
  return new OTLPTraceExporter();
}

/** An exporter that tells the log of the first failure after each success. */
function tellTrouble(exporter: SpanExporter, log: Logger): SpanExporter {
  let isFailing = false;
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        if (result.error !== undefined && !isFailing) {
          log.warn({ err: result.error, spans: spans.length }, "traces could not be sent, and are lost");
        }
        isFailing = result.error !== undefined;
        done(result);
      }),
    shutdown: () => exporter.shutdown(),
  };
}

/** @source OpenTelemetry specification, resource SDK, `OTEL_RESOURCE_ATTRIBUTES` */
function readAttributes(text: string): Record<string, string> {
  const pairs = text.split(",").map((pair) => pair.split("="));
  return Object.fromEntries(
    pairs.flatMap(([name = "", value]) =>
      name.trim() === "" || value === undefined ? [] : [[name.trim(), decodeURIComponentOrText(value.trim())]],
    ),
  );
}

function decodeURIComponentOrText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function readable(span: SpanRecord, resource: Resource): ReadableSpan {
  const { traceId, spanId, parentSpanId, name, kind, beganMs, endedMs, attributes, failure } = span;
  return {
    name,
    kind: kinds[kind],
    spanContext: () => ({ traceId, spanId, traceFlags: TraceFlags.SAMPLED }),
    ...(parentSpanId === ""
      ? {}
      : { parentSpanContext: { traceId, spanId: parentSpanId, traceFlags: TraceFlags.SAMPLED } }),
    startTime: highResolution(beganMs),
    endTime: highResolution(endedMs),
    duration: highResolution(Math.max(0, endedMs - beganMs)),
    status: failure === undefined ? { code: SpanStatusCode.UNSET } : { code: SpanStatusCode.ERROR, message: failure },
    attributes: { ...attributes },
    links: [],
    events: [],
    ended: true,
    resource,
    instrumentationScope: { name: "flotilla", version: daemonVersion() },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

function highResolution(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
