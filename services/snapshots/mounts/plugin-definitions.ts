import { pluginState } from "#config/config.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import type { ProcessContext } from "#fleet/run.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import { ActivationFiles } from "./activation-files.ts";
import { erofsHandler } from "./handlers/erofs.ts";
import { loopHandler } from "./handlers/loop.ts";
import { MountManager } from "./mount-manager.ts";
import { activationsService, mountsService } from "./mounts-service.ts";
import { mountManagerPlugin, mountsGrpcPlugin } from "./plugin.ts";
import type { MountIndex } from "./ports.ts";
import { format } from "./transformers/format.ts";
import { makeDirectories } from "./transformers/mkdir.ts";
import { makeFileSystem } from "./transformers/mkfs.ts";

/**
 * The mount manager and its plugins. What an earlier process has mounted is taken up or taken off before anything is served.
 *
 * @param options.roots - Directories of the snapshotters; there and in its own transformers may make files. containerd allows all of the
 *   daemon's root.
 */
export async function openMountManager(
  { config, log }: ProcessContext,
  { index, roots }: { readonly index: MountIndex; readonly roots: readonly string[] },
): Promise<{
  readonly manager: MountManager;
  readonly plugins: readonly PluginDefinition[];
  readonly services: readonly ServiceBinding[];
}> {
  const files = await ActivationFiles.open(pluginState(config, pluginUri(mountManagerPlugin)));
  const allowed = [files.targets, ...roots];
  const manager = new MountManager({
    index,
    files,
    handlers: [erofsHandler, loopHandler],
    transformers: new Map([
      ["format", format],
      ["mkfs", makeFileSystem(allowed)],
      ["mkdir", makeDirectories(allowed)],
    ]),
    onLeft: (place, error) => log.warn({ place, err: error }, "mounts of an activation stay for now"),
  });
  await manager.takeUp();
  return {
    manager,
    plugins: [{ manifest: mountsGrpcPlugin, init: () => ({ services: [mountsService(manager)] }) }],
    services: [activationsService(manager)],
  };
}
