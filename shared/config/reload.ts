import { isDeepStrictEqual } from "node:util";
import type { FleetConfig } from "./config.ts";

/** What a configuration that was read again says otherwise. Keys are named as the file does. */
export interface ReloadReport {
  /** Holds from now on. */
  readonly changed: readonly string[];
  /** Holds from the next start on. */
  readonly frozen: readonly string[];
}

/**
 * Takes over what may change while processes run: the level of the log, `[timeouts]` and `[stream_processors]`. Whoever reads these
 * each time that it needs them goes by the new ones.
 *
 * @param config - The one that the process goes by. Changed in place.
 * @param fresh - What the files and flags say now.
 */
export function reloadConfig(config: FleetConfig, fresh: FleetConfig): ReloadReport {
  const changed = [
    ...(config.log.level === fresh.log.level ? [] : ["debug.level"]),
    ...takeOver("timeouts", config.timeoutsMs, fresh.timeoutsMs),
    ...takeOver("stream_processors", config.streamProcessors, fresh.streamProcessors),
  ];
  Object.assign(config.log, { level: fresh.log.level });
  const { level: _level, ...log } = config.log;
  const { level: _freshLevel, ...freshLog } = fresh.log;
  const frozen = [
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
    ...differences("plugins", config.plugins, fresh.plugins),
  ];
  return { changed, frozen };
}

/** Makes a map that is read again and again like another. @returns what was different. */
function takeOver<T>(section: string, live: ReadonlyMap<string, T>, fresh: ReadonlyMap<string, T>): string[] {
  const changed = differences(section, live, fresh);
  // Nobody but a reload changes it, so that it is read-only to all others.
  const map = live as Map<string, T>;
  if (changed.length > 0) {
    map.clear();
    fresh.forEach((value, key) => map.set(key, value));
  }
  return changed;
}

function differences<T>(section: string, now: ReadonlyMap<string, T>, then: ReadonlyMap<string, T>): string[] {
  return [...new Set([...now.keys(), ...then.keys()])]
    .filter((key) => !isDeepStrictEqual(now.get(key), then.get(key)))
    .map((key) => `${section}.${JSON.stringify(key)}`);
}
