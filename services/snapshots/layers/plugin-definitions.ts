import { ErrorKind, failure } from "#base/errors.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import type { ProcessContext } from "#fleet/run.ts";
import { cleanTemporaryMounts } from "#linux/temporary-mount.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import { connectBlobStore } from "./blob-client.ts";
import { ChainUnpacker } from "./chains/chain-unpacker.ts";
import { type LayersServiceParts, layersService } from "./chains/layers-service.ts";
import { diffService } from "./diff-service.ts";
import { Differ } from "./differ.ts";
import { diffGrpcPlugin, diffServicePlugin, walkingPlugin } from "./plugin.ts";
import type { LayerMounts, LayerWorkers } from "./ports.ts";

/** What layers need from the process that has the file systems. */
export interface LayerPluginParts {
  readonly workers: LayerWorkers;
  readonly mounts: LayerMounts;
  /** See {@link LayersServiceParts.getSnapshots}. */
  readonly getSnapshots: LayersServiceParts["getSnapshots"];
}

/**
 * The plugins that read and write layers, for the process that has the file systems.
 *
 * Temporary mounts lie under `<root>/tmpmounts/diff`; what a crash has left there is removed first.
 *
 * @source containerd v2.3.4 plugins/diff/walking/plugin/plugin.go, plugins/services/diff/local.go, service.go
 */
export function layerPlugins(
  context: ProcessContext,
  { workers, mounts, getSnapshots }: LayerPluginParts,
): { readonly plugins: PluginDefinition[]; readonly services: ServiceBinding[] } {
  const { config, log } = context;
  const temporaryMounts = `${config.root}/tmpmounts/diff`;
  const blobs = connectBlobStore({ content: context.connect("content"), metadata: context.connect("metadata") });
  let walking: Differ | undefined;
  let unpacker: ChainUnpacker | undefined;
  let loaded: { readonly differ: Differ; readonly syncFileSystem: boolean } | undefined;
  const layers = layersService({
    getSnapshots,
    getUnpacker: (differ) => {
      if (unpacker === undefined || (differ !== "" && differ !== walkingPlugin.id)) {
        throw failure(ErrorKind.NotFound, `needed differ not loaded: ${differ || walkingPlugin.id}`);
      }
      return unpacker;
    },
    onLeft: (key, error) => log.warn({ key, err: error }, "an active snapshot of a failed unpacking stays"),
  });
  const plugins: PluginDefinition[] = [
    {
      manifest: walkingPlugin,
      init: async () => {
        for (const error of await cleanTemporaryMounts(temporaryMounts)) {
          log.warn({ err: error }, "a temporary mount of an earlier run stays");
        }
        walking = new Differ({
          blobs,
          threads: workers,
          mounts,
          temporaryMounts,
          programs: config.streamProcessors,
        });
        unpacker = new ChainUnpacker({ differ: walking, blobs, workers });
        return undefined;
      },
    },
    {
      manifest: diffServicePlugin,
      init: () => {
        const settings = pluginTable(config, pluginUri(diffServicePlugin));
        const missing = settings.strings("default").find((id) => id !== walkingPlugin.id || walking === undefined);
        if (missing !== undefined || walking === undefined) {
          throw new Error(`needed differ not loaded: ${missing ?? walkingPlugin.id}`);
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
  return { plugins, services: [layers] };
}
