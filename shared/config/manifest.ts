import type { PluginSettings } from "./settings.ts";
import type { TomlTable } from "./toml-table.ts";

/** What the configuration knows of a plugin: its name and what may stand in its table. Manifests say more, see `shared/fleet/manifest.ts`. */
export interface ConfigurablePlugin {
  /** For example `io.containerd.snapshotter.v1`. */
  readonly type: string;
  /** For example `overlayfs`. */
  readonly id: string;
  /** Absent when the plugin has no table in the configuration. */
  readonly settings?: Settings;
  /**
   * Keys of settings that hold as soon as the configuration is read again, each with all that stands in it, such as `["env", "cni.conf_dir"]`. Others hold
   * from the next start on.
   */
  readonly reloads?: readonly string[];
  /** `type.id` under which older files know the plugin. */
  readonly formerly?: string;
  /**
   * Takes over what files before the present version said in another way. Called once for each such file, after plugins have been named in
   * full and {@link formerly} has been obeyed.
   *
   * @param tables - Tables of all plugins that the file has, by `type.id`; changed in place.
   */
  migrate?(tables: Record<string, TomlTable>, warn: (warning: string) => void): void;
  /** What of its settings in use containerd is going to take away. */
  deprecated?(settings: PluginSettings): readonly Deprecation[];
}

/** Something in use that containerd is going to take away, in its words, since clients look for them. */
export interface Deprecation {
  /** Such as `io.containerd.deprecation/cgroup-v1`. @source containerd v2.3.4 pkg/deprecation/deprecation.go */
  readonly id: string;
  readonly message: string;
}

/** The settings of a plugin, or of a table within them, by their keys, in the order in which they are written. */
export type Settings = Readonly<Record<string, Setting>>;

/**
 * One setting:
 * - a value with a default. Without a default it is left out of the configuration where nobody sets it. Durations are written as Go does, and
 *   `any` is whatever TOML holds;
 * - `table`: a table of further settings, always there unless it is optional;
 * - `names`: a table whose keys the user chooses, such as those of runtimes. What each key holds is a setting as well;
 * - `tables`: a list of tables.
 *
 * `about` is one sentence for the reader of the documentation.
 */
export type Setting = { readonly about: string } & SettingKind;

type SettingKind =
  | Value<"string" | "duration", string>
  | Value<"integer" | "number", number>
  | Value<"boolean", boolean>
  | Value<"strings", readonly string[]>
  | Value<"any", never>
  | { readonly type: "table"; readonly settings: Settings; readonly optional?: boolean }
  | { readonly type: "names"; readonly each: Setting; readonly default?: TomlTable }
  | { readonly type: "tables"; readonly settings: Settings };

interface Value<T extends string, V> {
  readonly type: T;
  readonly default?: V;
  /** The default in words, where it depends on the machine. */
  readonly defaultText?: string;
}

/** `type.id`, as the configuration names a plugin. */
export function pluginUri({ type, id }: { readonly type: string; readonly id: string }): string {
  return `${type}.${id}`;
}
