import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { type ConfigurablePlugin, type Deprecation, pluginUri } from "#config/manifest.ts";
import { readMountInfo } from "#linux/mount-info.ts";

const cgroupV1: Deprecation = {
  id: "io.containerd.deprecation/cgroup-v1",
  message:
    "The support for cgroup v1 is deprecated since containerd v2.2 and will be removed by no later than May 2029. Upgrade the host to use cgroup v2.",
};

/**
 * What is in use here that containerd is going to take away: settings, as manifests tell, and the first version of cgroups.
 *
 * @param plugins - Those whose settings are looked at; what is disabled uses none.
 * @source containerd v2.3.4 plugins/services/warning, core/runtime/v2/task_manager_linux.go `emitPlatformWarnings`
 */
export async function findDeprecations(
  config: FleetConfig,
  plugins: readonly ConfigurablePlugin[],
): Promise<Deprecation[]> {
  const enabled = plugins.filter((plugin) => !config.disabledPlugins.includes(pluginUri(plugin)));
  const settings = enabled.flatMap((plugin) => plugin.deprecated?.(pluginTable(config, pluginUri(plugin))) ?? []);
  return [...((await isUnified()) ? [] : [cgroupV1]), ...settings];
}

/** @source github.com/containerd/cgroups/v3 utils.go `Mode` */
async function isUnified(): Promise<boolean> {
  const mounts = await readMountInfo();
  return mounts.findLast(({ mountPoint }) => mountPoint === "/sys/fs/cgroup")?.type === "cgroup2";
}
