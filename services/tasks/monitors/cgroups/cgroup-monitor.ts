import { type FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { Logger } from "#fleet/log.ts";
import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import type { Task } from "../../lifecycle.ts";
import { cgroupsPlugin } from "../../plugins.ts";
import { collectStats } from "../../rpc/metrics.ts";
import { containerFamilies } from "./container-families.ts";

export interface CgroupMonitorOptions {
  readonly config: FleetConfig;
  readonly log: Logger;
  /** How long each task may take to tell. */
  readonly timeoutMs: number;
  tasks(): readonly Task[];
}

/** Tells what the cgroups of all containers measure, unless the configuration keeps it from Prometheus. */
export class CgroupMonitor {
  readonly definition: PluginDefinition;
  readonly #options: CgroupMonitorOptions;
  #isLoaded = false;

  constructor(options: CgroupMonitorOptions) {
    this.#options = options;
    this.definition = {
      manifest: cgroupsPlugin,
      init: () => {
        this.#isWanted();
        this.#isLoaded = true;
        return undefined;
      },
    };
  }

  /** The figures now. A container whose supervisor is slow is left out. */
  async families(): Promise<readonly MetricFamily[]> {
    const { log, timeoutMs } = this.#options;
    const tasks = this.#options.tasks();
    const count = new FamilyBuilder("gauge", "flotilla_tasks", "Containers that have a task.").add({}, tasks.length);
    if (!this.#isLoaded || !this.#isWanted()) {
      return [count];
    }
    const told = await collectStats(tasks, { log, timeoutMs });
    const known = told.flatMap(({ namespace, id, stats }) => (stats === undefined ? [] : [{ namespace, id, stats }]));
    return [count, ...containerFamilies(known)];
  }

  /** Read each time, since a reload may change it. */
  #isWanted(): boolean {
    return !pluginTable(this.#options.config, pluginUri(cgroupsPlugin)).boolean("no_prometheus");
  }
}
