import { pluginRoot } from "#config/config.ts";
import type { ProcessContext } from "#fleet/run.ts";
import { PullMetrics } from "../metrics/pull-metrics.ts";
import type { CriPeers } from "../peers.ts";
import { followImages } from "./image-events.ts";
import { ImagePuller } from "./image-puller.ts";
import { type ImageSettings, readImageSettings } from "./image-settings.ts";
import { ImageStore } from "./image-store.ts";
import { SnapshotUsages } from "./snapshot-usage.ts";

/** Everything of this process that is about images. */
export interface Images {
  readonly settings: ImageSettings;
  readonly store: ImageStore;
  readonly puller: ImagePuller;
  readonly usages: SnapshotUsages;
  readonly metrics: PullMetrics;
  /** Where a snapshotter keeps its files. */
  readonly rootOf: (snapshotter: string) => string;
  /** Takes in what is there, and follows what others do from then on. */
  start(): Promise<void>;
}

/**
 * Puts images together.
 *
 * @param snapshottersOfRuntimes - Those that runtimes name in their own settings.
 * @throws {@link FlotillaError} `invalid_argument` for settings that can't be.
 */
export function openImages(
  context: ProcessContext,
  peers: CriPeers,
  snapshottersOfRuntimes: () => readonly string[],
): Images {
  const { config, log, stopping, resources } = context;
  const settings = readImageSettings(config);
  for (const reason of settings.ineffective) {
    log.warn({ reason }, "this setting has no effect");
  }
  context.onReload((next) => {
    const changed = readImageSettings(next);
    return () => {
      // Whoever needs something of it reads it each time.
      Object.assign(settings, changed);
    };
  });
  const store = new ImageStore({ peers, pinned: settings.pinned, log });
  const rootOf = (snapshotter: string): string => pluginRoot(config, `io.containerd.snapshotter.v1.${snapshotter}`);
  const metrics = new PullMetrics();
  const puller = new ImagePuller({ peers, store, settings, metrics });
  const snapshotters = (): string[] => [
    ...new Set([settings.snapshotter, ...Object.values(settings.snapshotterOfRuntime), ...snapshottersOfRuntimes()]),
  ];
  const usages = new SnapshotUsages({ peers, snapshotters, intervalMs: settings.measureIntervalMs, log, stopping });
  return {
    settings,
    store,
    puller,
    usages,
    metrics,
    rootOf,
    async start() {
      await store.load(stopping);
      const running = [followImages(store, peers, { log, stopping }), usages.run()];
      resources.defer(async () => {
        await Promise.all(running);
      });
    },
  };
}
