import { access } from "node:fs/promises";
import type { Logger } from "#fleet/log.ts";
import { mapInParallel } from "./domain/parallel.ts";
import type { TaskLifecycle } from "./lifecycle.ts";
import type { Runtime, RuntimeTask } from "./runtimes/runtime.ts";
import { type Bundle, type Bundles, isMarkedAsDeleted } from "./shims/bundles.ts";

/** How many bundles are looked at together. */
const parallelMax = 16;

/**
 * Finds the tasks of former processes again. When this resolves every living one is known; what is dead is being cleared
 * away and holds its id until then.
 *
 * @source containerd v2.3.4 core/runtime/v2/shim_load.go `LoadExistingShims`
 */
export async function reconnectTasks(parts: {
  readonly runtime: Runtime;
  readonly bundles: Bundles;
  readonly lifecycle: TaskLifecycle;
  /** Takes up a sandbox. */
  readonly adoptSandbox: (bundle: Bundle, supervisor: RuntimeTask) => void;
  readonly log: Logger;
}): Promise<void> {
  const { runtime, bundles, lifecycle, adoptSandbox, log } = parts;
  await bundles.eraseStrayWorkDirectories();
  const { bundles: found, hidden, refused } = await bundles.list();
  for (const name of refused) {
    log.warn({ name }, "not a bundle; left alone");
  }
  const inUse = new Set(found.map(({ workPath }) => workPath));
  for (const bundle of hidden) {
    // Its work directory may be that of a task that has the id now; then it goes when that one is hidden.
    if (!inUse.has(bundle.workPath)) {
      lifecycle.erase(bundle);
    }
  }
  await mapInParallel(found, parallelMax, async (bundle) => {
    try {
      const task = await runtime.reconnect(bundle);
      if (typeof task === "string") {
        lifecycle.bury(bundle, { hadTask: task === "dead" && !isMarkedAsDeleted(bundle) });
      } else if ("sandbox" in task) {
        adoptSandbox(bundle, task.sandbox);
      } else {
        lifecycle.adopt(bundle, task, { sandboxed: await isSandboxed(bundle) });
      }
    } catch (error) {
      log.error({ ns: bundle.namespace, container: bundle.id, err: error }, "task is not found again; left alone");
    }
  });
}

async function isSandboxed({ path }: Bundle): Promise<boolean> {
  return access(`${path}/sandbox`).then(
    () => true,
    () => false,
  );
}
