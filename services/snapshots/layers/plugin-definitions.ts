import { ErrorKind, failure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import type { ProcessContext } from "#fleet/run.ts";
import { cleanTemporaryMounts } from "#linux/temporary-mount.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import { connectBlobStore } from "./blob-client.ts";
import { ChainUnpacker } from "./chains/chain-unpacker.ts";
import { type LayersServiceParts, layersService } from "./chains/layers-service.ts";
import { type DiffProvider, diffService, ownDiffProvider } from "./diff-service.ts";
import { Differ } from "./differ.ts";
import type { ErofsDiffer } from "./erofs/erofs-differ.ts";
import { openErofsDiffer } from "./erofs/open-differ.ts";
import { erofsDifferPlugin } from "./erofs/plugin.ts";
import type { LayerLimits } from "./layer-limits.ts";
import { diffGrpcPlugin, diffServicePlugin, layerLimitsPlugin, walkingPlugin } from "./plugin.ts";
import type { LayerMounts, LayerWorkers } from "./ports.ts";
import type { ProxiedDiffer } from "./proxied-differ.ts";

/** What layers need from the process that has the file systems. */
export interface LayerPluginParts {
  readonly workers: LayerWorkers;
  readonly mounts: LayerMounts;
  /** Differs that are somebody else's, by name. */
  readonly proxied: ReadonlyMap<string, ProxiedDiffer>;
  /** See {@link LayersServiceParts.getSnapshots}. */
  readonly getSnapshots: LayersServiceParts["getSnapshots"];
}

/** What `[plugins."io.containerd.service.v1.diff-service"]` comes to. */
interface LoadedDiffers {
  readonly providers: readonly DiffProvider[];
  readonly syncFileSystem: boolean;
}

function readLimits(config: FleetConfig): LayerLimits {
  const settings = pluginTable(config, pluginUri(layerLimitsPlugin));
  return {
    entriesMax: settings.integer("entries_max"),
    depthMax: settings.integer("depth_max"),
    ratioMax: settings.integer("ratio_max"),
  };
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
  { workers, mounts, proxied, getSnapshots }: LayerPluginParts,
): { readonly plugins: PluginDefinition[]; readonly services: ServiceBinding[] } {
  const { config, log } = context;
  const temporaryMounts = `${config.root}/tmpmounts/diff`;
  const blobs = connectBlobStore({ content: context.connect("content"), metadata: context.connect("metadata") });
  /** The differs that are loaded, ours among them. */
  const own = new Map<string, Differ | ErofsDiffer>();
  const unpackers = new Map(
    Array.from(proxied, ([id, differ]) => [id, new ChainUnpacker({ differ, blobs, workers })] as const),
  );
  const load = (id: string, differ: Differ | ErofsDiffer): void => {
    own.set(id, differ);
    unpackers.set(id, new ChainUnpacker({ differ, blobs, workers }));
  };
  let loaded: LoadedDiffers | undefined;
  const findDiffers = (current: FleetConfig): LoadedDiffers => {
    const settings = pluginTable(current, pluginUri(diffServicePlugin));
    const syncFileSystem = settings.boolean("sync_fs");
    const providers = settings.strings("default").map((id) => {
      const ours = own.get(id);
      const found = ours === undefined ? proxied.get(id)?.provider : ownDiffProvider(ours, { syncFileSystem });
      if (found === undefined) {
        throw new Error(`needed differ not loaded: ${id}`);
      }
      return found;
    });
    if (providers.length === 0) {
      throw new Error("no differs are named");
    }
    return { providers, syncFileSystem };
  };
  const parts = {
    blobs,
    threads: workers,
    mounts,
    temporaryMounts,
    programs: config.streamProcessors,
    get limits() {
      return readLimits(config);
    },
  };
  const walking = new Differ(parts);
  const layers = layersService({
    getSnapshots,
    getUnpacker: (differ) => {
      const id = differ || walkingPlugin.id;
      const found = unpackers.get(id);
      if (found === undefined) {
        throw failure(ErrorKind.NotFound, `needed differ not loaded: ${id}`);
      }
      return found;
    },
    alwaysSyncsFileSystem: () => loaded?.syncFileSystem ?? false,
    onLeft: (key, error) => log.warn({ key, err: error }, "an active snapshot of a failed unpacking stays"),
  });
  const plugins: PluginDefinition[] = [
    {
      manifest: walkingPlugin,
      init: async () => {
        for (const error of await cleanTemporaryMounts(temporaryMounts)) {
          log.warn({ err: error }, "a temporary mount of an earlier run stays");
        }
        load(walkingPlugin.id, walking);
        return undefined;
      },
    },
    {
      manifest: erofsDifferPlugin,
      init: async () => {
        load(erofsDifferPlugin.id, await openErofsDiffer(config, { common: parts, walking }));
        return undefined;
      },
    },
    {
      manifest: diffServicePlugin,
      init: () => {
        loaded = findDiffers(config);
        context.onReload((next) => {
          const differs = findDiffers(next);
          return () => {
            loaded = differs;
          };
        });
        return undefined;
      },
    },
    {
      manifest: diffGrpcPlugin,
      init: () => {
        if (loaded === undefined) {
          throw new Error(`plugin ${pluginUri(diffServicePlugin)} is not loaded`);
        }
        const first = loaded;
        return { services: [diffService(() => (loaded ?? first).providers)] };
      },
    },
  ];
  return { plugins, services: [layers] };
}
