import { isDeepStrictEqual } from "node:util";
import { checkSettings } from "./check-settings.ts";
import type { FleetConfig, PluginTable } from "./config.ts";
import { pluginTable } from "./defaults.ts";
import { type ConfigurablePlugin, pluginUri } from "./manifest.ts";
import { formatKey, isTable } from "./toml-table.ts";

/** What a configuration that was read again says otherwise. Keys are named as the file does. */
export interface ReloadReport {
  /** Holds from now on. */
  readonly changed: readonly string[];
  /** Holds from the next start on. */
  readonly frozen: readonly string[];
}

/** A reload that nothing speaks against. */
export interface PlannedReload {
  readonly report: ReloadReport;
  /** What the configuration is going to be: the one that the process goes by, with what may change. */
  readonly next: FleetConfig;
  /** Changes the configuration that the process goes by in place, so that whoever reads it each time that it is needed goes by the new one. */
  readonly takeOver: () => void;
}

/**
 * Finds what may change while processes run: the level of the log, `[timeouts]`, `[stream_processors]`, and of the tables of plugins what their manifests
 * say.
 *
 * @param config - The one that the process goes by.
 * @param fresh - What the files and flags say now.
 * @param plugins - Those whose tables the process reads.
 * @throws {@link FlotillaError} `invalid_argument` when something that may change is of a wrong type.
 */
export function planReload(
  config: FleetConfig,
  fresh: FleetConfig,
  plugins: readonly ConfigurablePlugin[],
): PlannedReload {
  const { level: _level, ...log } = config.log;
  const { level: _freshLevel, ...freshLog } = fresh.log;
  const tables = plugins.map((plugin) => mergeTable(plugin, config, fresh));
  const report = {
    changed: [
      ...(config.log.level === fresh.log.level ? [] : ["debug.level"]),
      ...differences("timeouts", config.timeoutsMs, fresh.timeoutsMs),
      ...differences("stream_processors", config.streamProcessors, fresh.streamProcessors),
      ...tables.flatMap(({ changed }) => changed),
    ],
    frozen: [
      ...Object.entries({
        root: [config.root, fresh.root],
        state: [config.state, fresh.state],
        temp: [config.temp, fresh.temp],
        debug: [log, freshLog],
        disabled_plugins: [config.disabledPlugins, fresh.disabledPlugins],
        required_plugins: [config.requiredPlugins, fresh.requiredPlugins],
        oom_score: [config.oomScore, fresh.oomScore],
        "cgroup.path": [config.cgroupPath, fresh.cgroupPath],
      })
        .filter(([, [now, then]]) => !isDeepStrictEqual(now, then))
        .map(([key]) => key),
      ...differences("proxy_plugins", config.proxyPlugins, fresh.proxyPlugins),
      ...tables.flatMap(({ frozen }) => frozen),
    ],
  };
  const next: FleetConfig = {
    ...config,
    log: { ...config.log, level: fresh.log.level },
    timeoutsMs: fresh.timeoutsMs,
    streamProcessors: fresh.streamProcessors,
    plugins: new Map([...config.plugins, ...tables.map(({ uri, table }) => [uri, table] as const)]),
    sources: fresh.sources,
  };
  for (const plugin of plugins) {
    checkSettings(plugin.settings ?? {}, pluginTable(next, pluginUri(plugin)));
  }
  return {
    report,
    next,
    takeOver: () => {
      Object.assign(config.log, { level: next.log.level });
      Object.assign(config, { sources: next.sources });
      replace(config.timeoutsMs, next.timeoutsMs);
      replace(config.streamProcessors, next.streamProcessors);
      replace(config.plugins, next.plugins);
    },
  };
}

interface MergedTable extends ReloadReport {
  readonly uri: string;
  readonly table: PluginTable;
}

/** The table of a plugin as it is to be: what may change is fresh. */
function mergeTable(plugin: ConfigurablePlugin, config: FleetConfig, fresh: FleetConfig): MergedTable {
  const uri = pluginUri(plugin);
  const changed: string[] = [];
  const frozen: string[] = [];
  const merge = (now: PluginTable, then: PluginTable, path: readonly string[]): PluginTable => {
    const merged: Record<string, unknown> = {};
    for (const key of new Set([...Object.keys(now), ...Object.keys(then)])) {
      const [before, after] = [now[key], then[key]];
      const inner = [...path, key];
      const isEqual = isDeepStrictEqual(before, after);
      let value = before;
      if (isEqual || plugin.reloads?.includes(inner.join(".")) === true) {
        value = after;
        changed.push(...(isEqual ? [] : [formatKey(["plugins", uri, ...inner])]));
      } else if (isTable(before) && isTable(after)) {
        value = merge(before, after, inner);
      } else {
        frozen.push(formatKey(["plugins", uri, ...inner]));
      }
      if (value !== undefined) {
        merged[key] = value;
      }
    }
    return merged;
  };
  const table = merge(config.plugins.get(uri) ?? {}, fresh.plugins.get(uri) ?? {}, []);
  return { uri, table, changed, frozen };
}

/** Makes a map that is read again and again like another. Nobody but a reload changes it, so that it is read-only to all others. */
function replace<T>(live: ReadonlyMap<string, T>, next: ReadonlyMap<string, T>): void {
  const map = live as Map<string, T>;
  const entries = [...next];
  map.clear();
  entries.forEach(([key, value]) => map.set(key, value));
}

function differences<T>(section: string, now: ReadonlyMap<string, T>, then: ReadonlyMap<string, T>): string[] {
  return [...new Set([...now.keys(), ...then.keys()])]
    .filter((key) => !isDeepStrictEqual(now.get(key), then.get(key)))
    .map((key) => `${section}.${JSON.stringify(key)}`);
}
