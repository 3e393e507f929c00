import type { TraceContext } from "./trace-context.ts";
import type { Tracer } from "./tracer.ts";

/** Does something on behalf of one plugin. */
export type TracedInit = <T>(plugin: string, init: () => Promise<T> | T) => Promise<T>;

/** Has the initialisation of each plugin traced, below the start of the process. */
export function traceInits(tracer: Tracer, start: TraceContext | undefined): TracedInit {
  return (plugin, init) => tracer.trace("plugin.init", { plugin }, init, start);
}

/** What an entry of the log tells of the trace that it belongs to. @source containerd v2.3.4 pkg/tracing/log.go `(*LogrusHook).Fire` */
export function traceFieldsOf(tracer: Tracer | undefined): Readonly<Record<string, string>> {
  const traceId = tracer?.current?.traceId;
  return traceId === undefined ? {} : { trace_id: traceId };
}
