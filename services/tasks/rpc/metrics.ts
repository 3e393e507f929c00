import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Any, Timestamp } from "@bufbuild/protobuf/wkt";
import { ErrorKind, errorMessage, FlotillaError, isFailure } from "#base/errors.ts";
import { timestampNow } from "#base/times.ts";
import { compileFilters, type FieldSource, type Filter } from "#containerd/filter.ts";
import type { Logger } from "#fleet/log.ts";
import { Task as TaskService } from "#gen/containerd/task/v3/shim_pb.ts";
import type { MetricSchema } from "#gen/containerd/types/metrics_pb.ts";
import { mapInParallel } from "../domain/parallel.ts";
import type { Task } from "../lifecycle.ts";

/** How many supervisors are asked at the same time. */
const parallelMax = 16;

/**
 * The metrics of those tasks that pass the filters over `id` and `namespace`. Tasks that don't tell theirs in time are left out.
 *
 * @throws {@link FlotillaError} `unknown` when a filter makes no sense, since containerd does not map that error.
 * @source containerd v2.3.4 plugins/services/tasks/local.go `Metrics`, `getTasksMetrics`
 */
export async function collectMetrics(
  tasks: readonly Task[],
  filters: readonly string[],
  options: CollectOptions,
): Promise<MessageInitShape<typeof MetricSchema>[]> {
  const filter = compile(filters);
  const told = await collectStats(
    tasks.filter((task) => filter(fieldsOf(task))),
    options,
  );
  return told.map(({ timestamp, id, stats }) => ({ timestamp, id, ...(stats === undefined ? {} : { data: stats }) }));
}

export interface CollectOptions {
  readonly log: Logger;
  /** How long each task may take. */
  readonly timeoutMs: number;
}

/** What a task has told of its cgroup. */
export interface TaskStats {
  readonly timestamp: Timestamp;
  readonly namespace: string;
  readonly id: string;
  readonly stats: Any | undefined;
}

/** Asks tasks for their figures. Those that don't tell theirs in time are left out. */
export async function collectStats(
  tasks: readonly Task[],
  { log, timeoutMs }: CollectOptions,
): Promise<readonly TaskStats[]> {
  const told = await mapInParallel(tasks, parallelMax, async ({ namespace, id, supervisor }) => {
    const timestamp = timestampNow();
    try {
      const { stats } = await supervisor.call(TaskService.method.stats, { id }, { timeoutMs });
      return [{ timestamp, namespace, id, stats }];
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        log.error({ ns: namespace, container: id, err: error }, "collecting metrics failed");
      }
      return [];
    }
  });
  return told.flat();
}

function compile(filters: readonly string[]): Filter {
  try {
    return compileFilters(filters);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, errorMessage(error), { cause: error });
  }
}

function fieldsOf({ namespace, id }: Task): FieldSource {
  return ([name]) => (name === "id" ? id : name === "namespace" ? namespace : undefined);
}
