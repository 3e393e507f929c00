import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { readTraceContext, type TraceContext } from "./trace-context.ts";
import type { Tracer } from "./tracer.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Names the span within which a process is started. @source OpenTelemetry specification, environment variables as context propagation carriers */
const startVariable = "TRACEPARENT";

/**
 * Why nothing is traced, in containerd's words; undefined when it is.
 *
 * @throws {@link FlotillaError} `invalid_argument` for a variable that makes no sense.
 * @source containerd v2.3.4 pkg/tracing/plugin/otlp.go `checkDisabled`
 */
export function whyNotTraced(environment: Environment): string | undefined {
  const disabled = environment["OTEL_SDK_DISABLED"] ?? "";
  if (/^(?:1|t|true)$/i.test(disabled)) {
    return `tracing disabled by env OTEL_SDK_DISABLED=${disabled}`;
  }
  if (!/^(?:|0|f|false)$/i.test(disabled)) {
    throw new FlotillaError(
      ErrorKind.InvalidArgument,
      `invalid value for OTEL_SDK_DISABLED: strconv.ParseBool: parsing "${disabled}": invalid syntax: ${ErrorKind.InvalidArgument}`,
    );
  }
  const isPlaced = (name: string): boolean => (environment[name] ?? "") !== "";
  return isPlaced("OTEL_EXPORTER_OTLP_ENDPOINT") || isPlaced("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    ? undefined
    : "tracing endpoint not configured";
}

/**
 * Sees to it that traces can be sent as the environment says.
 *
 * @throws {@link FlotillaError} `invalid_argument` or `not_implemented`, in containerd's words.
 * @source containerd v2.3.4 pkg/tracing/plugin/otlp.go `InitFn` of `otlp`, `newExporter`
 */
export function checkExporter(environment: Environment): void {
  const exporter = environment["OTEL_TRACES_EXPORTER"] ?? "";
  if (exporter !== "" && exporter !== "otlp") {
    throw failure(ErrorKind.InvalidArgument, `unsupported traces exporter ${quote(exporter)}`);
  }
  const protocol = otlpProtocol(environment);
  if (protocol !== "http/protobuf" && protocol !== "grpc") {
    throw failure(ErrorKind.NotImplemented, `OpenTelemetry protocol ${quote(protocol)} `);
  }
}

/** How traces are sent, as the environment says it. @source containerd v2.3.4 pkg/tracing/plugin/otlp.go `newExporter` */
export function otlpProtocol(environment: Environment): string {
  return (
    environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] || environment["OTEL_EXPORTER_OTLP_PROTOCOL"] || "http/protobuf"
  );
}

/** Whether the environment asks for traces; what is wrong with it the gateway tells. */
export function wantsTraces(environment: Environment): boolean {
  try {
    checkExporter(environment);
    return whyNotTraced(environment) === undefined;
  } catch {
    return false;
  }
}

/** The tracer of a process behind the gateway, loaded only when traces are wanted. */
export async function openTracer(environment: Environment): Promise<Tracer | undefined> {
  if (!wantsTraces(environment)) {
    return undefined;
  }
  const { followOnly, Tracer: LoadedTracer } = await import("./tracer.ts");
  return new LoadedTracer(followOnly);
}

/** Takes the span within which this process was started out of its environment, so that what it starts does not find it. */
export function takeStartContext(environment: NodeJS.ProcessEnv): TraceContext | undefined {
  const traceparent = environment[startVariable];
  delete environment[startVariable];
  return readTraceContext((name) => (name === "traceparent" ? traceparent : undefined));
}

/** Lets the processes that are started from now on find the span within which they are. */
export function leaveStartContext(environment: NodeJS.ProcessEnv, traceparent: string | undefined): void {
  if (traceparent === undefined) {
    delete environment[startVariable];
  } else {
    environment[startVariable] = traceparent;
  }
}
