import { Tracer } from "#fleet/tracing/tracer.ts";
import { samplingOf } from "./sampling.ts";

/** The tracer of the gateway, at which traces begin. Loaded only when traces are wanted. */
export function openGatewayTracer(environment: Readonly<Record<string, string | undefined>>): Tracer {
  return new Tracer(samplingOf(environment));
}
