import type { Sampling } from "#fleet/tracing/tracer.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** Digits of a trace id that are random by the rules, and how many values they have. @source W3C Trace Context level 2, random trace id flag */
const randomDigits = 14;
const randomValues = 16 ** randomDigits;

/**
 * Which traces are recorded, by `OTEL_TRACES_SAMPLER`. Those that were begun elsewhere are recorded if they say so; that is what `parentbased_`
 * means, and the rule where nothing is said.
 *
 * @source OpenTelemetry specification, environment variables, general SDK configuration
 */
export function samplingOf(environment: Environment): Sampling {
  const name = environment["OTEL_TRACES_SAMPLER"] ?? "";
  const isBegun = rootSampling(name.replace(/^parentbased_/, ""), environment["OTEL_TRACES_SAMPLER_ARG"] ?? "");
  const asksParent = name === "" || name.startsWith("parentbased_");
  return (traceId, parent) => (asksParent && parent !== undefined ? parent.isSampled : isBegun(traceId));
}

function rootSampling(name: string, argument: string): (traceId: string) => boolean {
  switch (name) {
    case "always_off":
      return () => false;
    case "traceidratio": {
      const given = argument === "" ? Number.NaN : Number(argument);
      const ratio = given >= 0 && given <= 1 ? given : 1;
      return (traceId) => Number.parseInt(traceId.slice(-randomDigits), 16) >= (1 - ratio) * randomValues;
    }
    default:
      // What is unknown counts as not said.
      return () => true;
  }
}
