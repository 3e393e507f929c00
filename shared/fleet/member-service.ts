import { randomBytesAtStart } from "#base/random.ts";
import type { DescribeResponse } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { bindService, type ServiceBinding } from "#wire/handler.ts";
import type { CallUnderWay } from "#wire/observe.ts";
import { processState } from "./debug/process-state.ts";
import { profilePieces } from "./debug/profile-pieces.ts";
import type { CallCounts } from "./metrics/call-counts.ts";
import type { MetricFamily } from "./metrics/family.ts";
import { ProcessFigures } from "./metrics/process-figures.ts";
import type { NotedDeprecations } from "./noted-deprecations.ts";
import type { InitialisedPlugins } from "./plugin.ts";
import type { ProcessName } from "./process-name.ts";
import type { Reloader } from "./reload.ts";
import type { Tracer } from "./tracing/tracer.ts";

export interface MemberServiceOptions {
  readonly process: ProcessName;
  readonly description: DescribeResponse;
  readonly plugins: InitialisedPlugins;
  /** The calls of clients; undefined when nobody wants them counted. */
  readonly counts: CallCounts | undefined;
  readonly reloader: Reloader;
  readonly deprecations: NotedDeprecations;
  /** Undefined when nothing is traced. */
  readonly tracer: Tracer | undefined;
  /** The calls that the process answers at the moment. */
  calls(): readonly CallUnderWay[];
  /** Gets what has to be closed. */
  readonly resources: AsyncDisposableStack;
  /** Figures that this process alone has. */
  measure?(): Promise<readonly MetricFamily[]> | readonly MetricFamily[];
}

/** What the gateway asks of every process of the fleet. */
export function memberService(options: MemberServiceOptions): ServiceBinding {
  const { process, description, plugins, counts, reloader, resources } = options;
  const incarnation = randomBytesAtStart(16).toString("hex");
  let figures: ProcessFigures | undefined;
  return bindService(Member, {
    reload: async () => {
      const { changed, frozen } = await reloader.reload();
      return { changed: [...changed], frozen: [...frozen] };
    },
    describe: () => description,
    deprecations: () => ({ deprecations: options.deprecations.all() }),
    inspect: async ({ type, id, options: asked }) =>
      asked === undefined ? {} : { extra: await plugins.inspect({ type, id }, asked) },
    dump: () => ({ state: JSON.stringify(processState(process, options.calls())) }),
    async *trace(_request, { signal }) {
      while (options.tracer !== undefined && !signal.aborted) {
        const spans = await options.tracer.take(signal);
        if (spans.length > 0) {
          yield {
            spans: spans.map(({ failure: why, ...span }) => ({
              ...span,
              ...(why === undefined ? {} : { failure: why }),
            })),
          };
        }
      }
    },
    async *profile(request, { signal }) {
      yield* profilePieces(request, signal);
    },
    measure: async () => {
      figures ??= resources.use(new ProcessFigures(process));
      const own = (await options.measure?.()) ?? [];
      return {
        incarnation,
        families: [...figures.families(), ...(counts?.families() ?? []), ...own].map((family) => ({
          ...family,
          series: [...family.series],
          values: [...family.values],
        })),
      };
    },
  });
}
