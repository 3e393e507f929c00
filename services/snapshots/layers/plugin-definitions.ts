import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import type { ProcessContext } from "#fleet/run.ts";
import { cleanTemporaryMounts } from "#linux/temporary-mount.ts";
import { diffService } from "../rpc/diff.ts";
import { connectBlobStore } from "./blob-client.ts";
import { Differ } from "./differ.ts";
import { LayerThreads } from "./layer-threads.ts";
import { diffGrpcPlugin, diffServicePlugin, walkingPlugin } from "./plugin.ts";

/**
 * The plugins that read and write layers, for the process that has the file systems.
 *
 * Temporary mounts lie under `<root>/tmpmounts/diff`; what a crash has left there is removed first.
 *
 * @source containerd v2.3.4 plugins/diff/walking/plugin/plugin.go, plugins/services/diff/local.go, service.go
 */
export function diffPlugins(context: ProcessContext): PluginDefinition[] {
  const { config, log, resources } = context;
  const temporaryMounts = `${config.root}/tmpmounts/diff`;
  let walking: Differ | undefined;
  let loaded: { readonly differ: Differ; readonly syncFileSystem: boolean } | undefined;
  return [
    {
      manifest: walkingPlugin,
      init: async () => {
        for (const error of await cleanTemporaryMounts(temporaryMounts)) {
          log.warn({ err: error }, "a temporary mount of an earlier run stays");
        }
        walking = new Differ({
          blobs: connectBlobStore({ content: context.connect("content"), metadata: context.connect("metadata") }),
          threads: resources.use(new LayerThreads()),
          temporaryMounts,
          programs: config.streamProcessors,
        });
        return undefined;
      },
    },
    {
      manifest: diffServicePlugin,
      init: () => {
        const settings = pluginTable(config, pluginUri(diffServicePlugin));
        const missing = settings.strings("default").find((id) => id !== "walking" || walking === undefined);
        if (missing !== undefined || walking === undefined) {
          throw new Error(`needed differ not loaded: ${missing ?? "walking"}`);
        }
        loaded = { differ: walking, syncFileSystem: settings.boolean("sync_fs") };
        return undefined;
      },
    },
    {
      manifest: diffGrpcPlugin,
      init: () => {
        if (loaded === undefined) {
          throw new Error(`plugin ${pluginUri(diffServicePlugin)} is not loaded`);
        }
        return { services: [diffService(loaded.differ, loaded)] };
      },
    },
  ];
}
