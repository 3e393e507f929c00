import assert from "node:assert/strict";
import { statfsSync } from "node:fs";
import test from "node:test";
import type { FleetConfig } from "#config/config.ts";
import { defaultTable } from "#config/plugin-tables.ts";
import { findDeprecations } from "./deprecations.ts";

const prefix = "io.containerd.deprecation/";
/** @source statfs(2) `CGROUP2_SUPER_MAGIC` */
const cgroup2 = 0x63677270;

const plugin = {
  type: "io.example.v1",
  id: "old",
  settings: { old: { type: "boolean", default: false, about: "Whether the old way is gone." } },
  deprecated: (settings: { boolean(key: string): boolean }) =>
    settings.boolean("old") ? [{ id: `${prefix}old`, message: "It is old." }] : [],
} as const;

async function found(old: boolean, disabledPlugins: readonly string[] = []): Promise<string[]> {
  const config = {
    plugins: new Map([["io.example.v1.old", { ...defaultTable(plugin), old }]]),
    sources: new Map(),
    disabledPlugins,
  } as unknown as FleetConfig;
  return (await findDeprecations(config, [plugin])).map(({ id }) => id);
}

test("settings in use that are deprecated are told of, and the first version of cgroups", async () => {
  const ofMachine = statfsSync("/sys/fs/cgroup").type === cgroup2 ? [] : [`${prefix}cgroup-v1`];
  assert.deepEqual(await found(false), ofMachine);
  assert.deepEqual(await found(true), [...ofMachine, `${prefix}old`]);
  assert.deepEqual(await found(true, ["io.example.v1.old"]), ofMachine);
});
