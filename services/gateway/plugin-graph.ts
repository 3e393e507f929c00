import { pluginUri } from "#config/manifest.ts";
import type { Plugin } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";

/**
 * Sorts plugins so that each stands after all plugins of the types that it requires, and otherwise in the given order. `*` stands
 * for every other type.
 *
 * @source containerd/plugin v1.0 plugin.go `Graph`
 */
export function sortPlugins(plugins: readonly Plugin[]): Plugin[] {
  const sorted = new Set<Plugin>();
  const visiting = new Set<Plugin>();
  const visit = (plugin: Plugin): void => {
    if (sorted.has(plugin) || visiting.has(plugin)) {
      return;
    }
    visiting.add(plugin);
    for (const required of plugin.requires) {
      for (const candidate of plugins) {
        if (candidate !== plugin && (required === "*" || candidate.type === required)) {
          visit(candidate);
        }
      }
    }
    sorted.add(plugin);
  };
  plugins.forEach(visit);
  return [...sorted];
}

/**
 * The required plugins that are not there or did not load, each with containerd's sentence.
 *
 * @source containerd v2.3.4 cmd/containerd/server/server.go `New`
 */
export function missingRequirements(required: readonly string[], plugins: readonly Plugin[]): string[] {
  const absent = required.filter((uri) => !plugins.some((plugin) => pluginUri(plugin) === uri));
  const failed = plugins.filter((plugin) => plugin.initErr !== undefined && required.includes(pluginUri(plugin)));
  return [
    ...failed.map((plugin) => `load required plugin ${pluginUri(plugin)}: ${plugin.initErr?.message}`),
    ...(absent.length > 0 ? [`required plugin [${absent.join(" ")}] not included`] : []),
  ];
}
