import type { Deprecation } from "#config/manifest.ts";
import type { PluginSettings } from "#config/settings.ts";

/** How containerd tells of a table that it is going to take away: since when, and what takes its place. */
const registryTables = [
  ["mirrors", "v1.5", "Use `config_path` instead."],
  ["auths", "v1.3", "Use `ImagePullSecrets` instead."],
  ["configs", "v1.5", "Use `config_path` instead."],
] as const;

/** @source containerd v2.3.4 internal/cri/config/config.go `ValidateImageConfig`, pkg/deprecation/deprecation.go */
export function deprecatedImageSettings(settings: PluginSettings): Deprecation[] {
  const registry = settings.table("registry");
  return registryTables
    .filter(([key]) => registry.has(key) && registry.table(key).keys().length > 0)
    .map(([key, since, instead]) => ({
      id: `io.containerd.deprecation/cri-registry-${key}`,
      message: `The \`${key}\` property of \`[plugins."io.containerd.grpc.v1.cri".registry]\` is deprecated since containerd ${since} and will be removed in containerd v2.4. ${instead}`,
    }));
}

/** @source containerd v2.3.4 internal/cri/config/config.go `ValidateRuntimeConfig`, pkg/deprecation/deprecation.go */
export function deprecatedRuntimeSettings(settings: PluginSettings): Deprecation[] {
  const found: Deprecation[] = [];
  if (settings.table("cni").string("bin_dir") !== "") {
    found.push({
      id: "io.containerd.deprecation/cri-cni-bin-dir",
      message:
        'The `bin_dir` property of `[plugins."io.containerd.cri.v1.runtime".cni`] is deprecated since containerd v2.1 and will be removed in containerd v2.4. Use `bin_dirs` in the same section instead.',
    });
  }
  if (!settings.boolean("enable_cdi")) {
    found.push({
      id: "io.containerd.deprecation/enable-cdi",
      message:
        'The `enable_cdi` property of `[plugins."io.containerd.cri.v1.runtime"]` is deprecated, will be removed in containerd v2.3, and CDI support will always be enabled.',
    });
  }
  return found;
}
