import type { FleetConfig } from "./config.ts";
import type { DaemonFlags } from "./flags.ts";

export interface LoadedConfig {
  readonly config: FleetConfig;
  /** What the user should know, such as unknown keys, in containerd's words. */
  readonly warnings: readonly string[];
}

export async function loadConfig(_flags: DaemonFlags): Promise<LoadedConfig> {
  throw new Error("in work");
}
