import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readMountInfo } from "#linux/mount-info.ts";
import { listCgroups, runcStateOf } from "./container-traces.ts";
import { hasInEnvironment, listProcesses, until } from "./processes.ts";
import { traces } from "./traces.ts";

/** What was there before. */
export interface LeakSnapshot {
  readonly found: ReadonlySet<string>;
}

/** Notes what this test process has on the machine already; usually nothing. */
export async function snapshotLeaks(): Promise<LeakSnapshot> {
  return { found: new Set(await findTraces()) };
}

/**
 * Asserts that nothing is left of what this test process has made since: no directory, mount, process, cgroup, shim socket or
 * state of runc. What others do on the machine does not count.
 *
 * @param settleMs - How long what is just ending may still be seen; 5 s unless given.
 */
export async function assertNoLeaks(
  before: LeakSnapshot = { found: new Set() },
  { settleMs = 5_000 }: { readonly settleMs?: number } = {},
): Promise<void> {
  const findNew = async (): Promise<string[]> => (await findTraces()).filter((trace) => !before.found.has(trace));
  await until(
    async () => (await findNew()).length === 0,
    () => "",
    settleMs,
  ).catch(() => undefined);
  assert.deepEqual(await findNew(), [], "left on the machine");
}

async function findTraces(): Promise<string[]> {
  const directories = [...traces.directories];
  const namespaces = [...traces.namespaces];
  const mentions = (text: string): boolean =>
    directories.some((directory) => text.includes(directory)) || namespaces.some((name) => text.includes(name));
  const mounts = await readMountInfo();
  return [
    ...directories.filter((path) => existsSync(path)).map((path) => `directory ${path}`),
    ...mounts.filter((mount) => mentions(JSON.stringify(mount))).map(({ mountPoint }) => `mount ${mountPoint}`),
    ...listProcesses()
      .filter(({ pid }) => pid !== process.pid)
      .filter(
        ({ pid, command, cgroups }) =>
          [command, ...cgroups].some(mentions) || directories.some((path) => hasInEnvironment(pid, path)),
      )
      .map(({ pid, command }) => `process ${pid} ${command}`),
    ...namespaces.flatMap(listCgroups).map((path) => `cgroup ${path}`),
    ...namespaces
      .map(runcStateOf)
      .filter((path) => existsSync(path))
      .map((path) => `state of runc ${path}`),
    ...[...traces.sockets].filter((path) => existsSync(path)).map((path) => `socket ${path}`),
  ];
}
