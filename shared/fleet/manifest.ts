import type { ConfigurablePlugin } from "#config/manifest.ts";
import type { ImagePlatform } from "#containerd/platform.ts";

/**
 * What is known of a plugin without running it. A manifest is plain data in the file `plugin.ts` or `plugins.ts` beside the plugin's code, and
 * stands in the list `services/plugins.ts`. The configuration, `config default`, introspection, the order of the graph and the documentation of
 * settings derive from it.
 */
export interface PluginManifest extends ConfigurablePlugin {
  /** Types of plugins that it needs, as containerd registers them; `*` for every other type. */
  readonly requires?: readonly string[];
  /** What it tells clients wherever it runs; what depends on the machine is told once it is ready. */
  readonly exports?: Readonly<Record<string, string>>;
  readonly capabilities?: readonly string[];
  /** Whether the plugin depends on the host's platform, which is then shown. */
  readonly platformDependent?: boolean;
  /** The platform that is shown in place of the host's. */
  readonly platform?: Pick<ImagePlatform, "os" | "architecture" | "variant">;
}
