import { type HrTime, SpanKind, SpanStatusCode, TraceFlags } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { type Resource, resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, type ReadableSpan } from "@opentelemetry/sdk-trace";
import type { SpanRecord } from "#fleet/tracing/tracer.ts";
import { daemonVersion } from "#fleet/version.ts";

/** Spans are sent after so long, so that a trace is whole soon after it has ended. */
const delayMs = 500;

const kinds: Readonly<Record<SpanRecord["kind"], SpanKind>> = {
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  internal: SpanKind.INTERNAL,
};

/** Sends the spans of all processes to a collector, as the environment says (`OTEL_EXPORTER_OTLP_…`). */
export class TraceExport implements AsyncDisposable {
  readonly #processor = new BatchSpanProcessor({ exporter: new OTLPTraceExporter(), scheduledDelayMillis: delayMs });
  readonly #resources = new Map<string, Resource>();
  readonly #attributes: Readonly<Record<string, string>>;

  constructor(environment: Readonly<Record<string, string | undefined>>) {
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

  /** Sends what waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#processor.shutdown();
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
