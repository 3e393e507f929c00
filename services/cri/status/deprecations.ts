import type { PluginSettings } from "#config/settings.ts";
import type { Deprecation } from "./status-call.ts";

/**
 * Settings in use that containerd is going to take away, in its words, since whoever scrapes the status looks for them.
 *
 * @source containerd v2.3.4 pkg/deprecation/deprecation.go
 */
export function findDeprecations(images: PluginSettings, runtime: PluginSettings): Deprecation[] {
  const registry = images.table("registry");
  const isUsed = (key: string): boolean => registry.has(key) && registry.table(key).keys().length > 0;
  const cni = runtime.table("cni");
  const found: Deprecation[] = [];
  const add = (isInUse: boolean, id: string, message: string): void => {
    if (isInUse) {
      found.push({ id: `io.containerd.deprecation/${id}`, message });
    }
  };
  const registryMessage = (key: string, since: string, instead: string): string =>
    `The \`${key}\` property of \`[plugins."io.containerd.grpc.v1.cri".registry]\` is deprecated since containerd ${since} and will be removed in containerd v2.4. ${instead}`;
  add(isUsed("mirrors"), "cri-registry-mirrors", registryMessage("mirrors", "v1.5", "Use `config_path` instead."));
  add(isUsed("auths"), "cri-registry-auths", registryMessage("auths", "v1.3", "Use `ImagePullSecrets` instead."));
  add(isUsed("configs"), "cri-registry-configs", registryMessage("configs", "v1.5", "Use `config_path` instead."));
  add(
    cni.string("bin_dir") !== "",
    "cri-cni-bin-dir",
    'The `bin_dir` property of `[plugins."io.containerd.cri.v1.runtime".cni`] is deprecated since containerd v2.1 and will be removed in containerd v2.4. Use `bin_dirs` in the same section instead.',
  );
  add(
    !runtime.boolean("enable_cdi"),
    "enable-cdi",
    'The `enable_cdi` property of `[plugins."io.containerd.cri.v1.runtime"]` is deprecated, will be removed in containerd v2.3, and CDI support will always be enabled.',
  );
  return found;
}
