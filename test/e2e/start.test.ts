import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { listCgroups, removeCgroups } from "../kit/container-traces.ts";
import { startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { hasInEnvironment, killProcesses, listProcesses, until } from "../kit/processes.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const repository = fileURLToPath(new URL("../../", import.meta.url));

let leaks: LeakSnapshot;

before(async () => {
  leaks = await snapshotLeaks();
});

after(() => assertNoLeaks(leaks));

test("a signal to npm stops the daemon that npm has started, and all its processes", async () => {
  await using directory = await makeTemporaryDirectory("npm");
  const { path } = directory;
  await writeFile(`${path}/config.toml`, "version = 4\n");
  const flags = ["--root", `${path}/root`, "--state", `${path}/state`, "--address", `${path}/s.sock`];
  const npm = spawn("npm", ["start", "--", ...flags, "--config", `${path}/config.toml`], {
    cwd: repository,
    env: { ...process.env, FLOTILLA_TEST_DIRECTORY: path },
    stdio: "ignore",
  });
  const ended = new Promise((resolve) => npm.once("exit", (code, signal) => resolve({ code, signal })));
  await using resources = new AsyncDisposableStack();
  const isOwn = (pid: number): boolean => hasInEnvironment(pid, `FLOTILLA_TEST_DIRECTORY=${path}\0`);
  resources.defer(async () => {
    await killProcesses(listProcesses().flatMap(({ pid }) => (isOwn(pid) ? [pid] : [])));
  });
  await until(
    () => existsSync(`${path}/s.sock`),
    () => "the daemon does not come up",
    60_000,
  );
  const fleet = listProcesses().filter(({ pid }) => isOwn(pid));
  assert.deepEqual(
    ["gateway", "events", "metadata", "content", "snapshots", "tasks"].filter(
      (name) => !fleet.some(({ command }) => command === `flotilla: ${name}`),
    ),
    [],
  );
  npm.kill("SIGTERM");
  await ended;
  await until(
    () => !listProcesses().some(({ pid }) => isOwn(pid)),
    () => "the fleet outlives npm",
    30_000,
  );
  assert.equal(existsSync(`${path}/s.sock`), false);
});

test("the whole fleet runs in the cgroup that the configuration names", async () => {
  const name = uniqueNamespace();
  await using resources = new AsyncDisposableStack();
  resources.defer(() => removeCgroups(listCgroups(name)));
  if (!readFileSync("/proc/self/mounts", "utf8").includes(" cgroup rw")) {
    // Version 2 alone: the cgroup has to be there.
    mkdirSync(`/sys/fs/cgroup/${name}`);
  }
  const daemon = resources.use(await startFlotilla({ config: `[cgroup]\npath = "/${name}"` }));
  for (const process of ["gateway", "metadata", "nats-server"] as const) {
    const cgroups = readFileSync(`/proc/${daemon.pidOf(process)}/cgroup`, "utf8");
    assert.match(cgroups, new RegExp(`^(?:\\d+:(?:devices|memory)|0:):/${name}$`, "m"), process);
  }
});

test("a daemon that is started while the one before it still stops waits for it", async () => {
  await using daemon = await startFlotilla();
  // It does not end by itself, so that the stop takes long.
  process.kill(daemon.pidOf("content") ?? assert.fail("content does not run"), "SIGSTOP");
  const stopped = daemon.stop();
  await daemon.start();
  assert.equal(await stopped, 0);
  assert.match(daemon.log(), /waiting for the daemon that has this root to stop/);
  assert.equal((await daemon.ctr("version")).exitCode, 0);
});
