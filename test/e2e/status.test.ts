import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import type { StatusReport } from "../../services/gateway/cli/status-report.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { until } from "../kit/processes.ts";

const launcher = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));
let daemon: Daemon;
let leaks: LeakSnapshot;

before(async () => {
  leaks = await snapshotLeaks();
  daemon = await startFlotilla({ config: '[plugins."io.containerd.gc.v1.scheduler"]\npause_threshold = "much"\n' });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

async function run(...args: string[]): Promise<{ stdout: string; stderr: string; exitCode: number | undefined }> {
  const flags = ["--root", daemon.root, "--state", daemon.state, "--address", daemon.address];
  const { stdout, stderr, exitCode } = await execa(launcher, [...flags, ...args], { reject: false, timeout: 30_000 });
  return { stdout, stderr, exitCode };
}

async function status(): Promise<StatusReport> {
  const { stdout, stderr } = await run("status", "--json");
  assert.equal(stderr, "");
  return JSON.parse(stdout) as StatusReport;
}

test("each process is there with its pid, health, memory and restarts", async () => {
  const names = ["gateway", "events", "metadata", "content", "snapshots", "tasks"] as const;
  const { processes } = await status();
  for (const name of names) {
    const found = processes.find((process) => process.name === name);
    assert.deepEqual([found?.health, found?.pid], ["serving", daemon.pidOf(name)], name);
    assert.ok((found?.residentBytes ?? 0) > 1024 ** 2 && (found?.startedMs ?? 0) > Date.now() - 3_600_000, name);
    assert.equal(found?.restarts, name === "gateway" ? null : 0);
  }
  const transfer = processes.find(({ name }) => name === "transfer");
  assert.deepEqual([transfer?.health, transfer?.pid], ["idle", null]);
  await daemon.kill9("content");
  await until(
    async () => (await status()).processes.find(({ name }) => name === "content")?.restarts === 1,
    () => "the restart is not told of",
    20_000,
  );
});

test("calls under way, and those who follow the events, are counted", async () => {
  const stop = new AbortController();
  const following = (async () => {
    for await (const _ of createClient(Events, daemon.transport).subscribe({}, { signal: stop.signal })) {
      return;
    }
  })().catch(() => undefined);
  await until(
    async () => {
      const { processes, events, relay } = await status();
      return (
        processes.find(({ name }) => name === "events")?.calls === 1 &&
        events.subscribers === 1 &&
        relay.connections > 0
      );
    },
    () => "the call is not told of",
    20_000,
  );
  stop.abort();
  await following;
});

test("plugins that have failed are told of with the reason", async () => {
  const { failedPlugins } = await status();
  assert.match(
    failedPlugins.find(({ plugin }) => plugin === "io.containerd.gc.v1.scheduler")?.reason ?? "",
    /pause_threshold: expected a number, got a string/,
  );
});

test("who watches sees each change as it comes, and the daemon go and come back", async () => {
  const flags = ["--root", daemon.root, "--state", daemon.state, "--address", daemon.address];
  const watching = execa(launcher, [...flags, "status", "--watch", "--json"], { reject: false, buffer: false });
  const screens = execa(launcher, [...flags, "status", "--watch"], { reject: false, buffer: false });
  let lines = "";
  let text = "";
  watching.stdout.on("data", (chunk: Buffer) => (lines += chunk.toString()));
  screens.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const reports = (): (StatusReport | null)[] =>
    lines
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as StatusReport | null);
  const restartsOf = (report: StatusReport | null | undefined): number | null | undefined =>
    report?.processes.find(({ name }) => name === "content")?.restarts;
  try {
    await until(
      () => reports().length > 0,
      () => "nothing is shown",
      20_000,
    );
    const before = restartsOf(reports()[0]) ?? 0;
    await daemon.kill9("content");
    await until(
      () => restartsOf(reports().at(-1)) === before + 1,
      () => `the restart is not shown: ${lines}`,
      20_000,
    );
    await daemon.stop();
    await until(
      () => reports().at(-1) === null,
      () => "a daemon that is gone is still shown",
      30_000,
    );
    await daemon.start();
    await until(
      () => restartsOf(reports().at(-1)) === 0,
      () => "the daemon that is back is not shown",
      30_000,
    );
    assert.ok(text.split("\u001b[2J\u001b[H").length > 2, "the screen is drawn again and again");
    assert.match(text, /^gateway +serving/m);
    assert.match(text, /unavailable/);
  } finally {
    watching.kill();
    screens.kill();
    await Promise.all([watching, screens]);
  }
});

test("the table has a line for each process, and a daemon that is not there is said not to be", async () => {
  const { stdout } = await run("status");
  assert.match(stdout, /^PROCESS +HEALTH +PID +RESTARTS +MEMORY +RUNNING +CALLS$/m);
  assert.match(stdout, /^content +serving +\d+ +\d+ +[\d.]+ MiB +\w+ +0$/m);
  assert.match(stdout, /^transfer +idle +- +0 +- +- +0$/m);
  assert.match(stdout, /^events: none waits to be published; \d+ subscribers/m);
  assert.match(stdout, /^ {2}io\.containerd\.gc\.v1\.scheduler: .*pause_threshold/m);
  const { exitCode, stderr } = await execa(launcher, ["--state", "/tmp/not-there", "status"], { reject: false });
  assert.equal(exitCode, 1);
  assert.match(stderr, /^flotilla: .*unavailable$/);
});
