import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { type Daemon, type DaemonProcess, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { listProcesses, sendSignal, until } from "../kit/processes.ts";
import { startRegistry } from "../kit/registry.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { TransferClient } from "../kit/transfer-client.ts";

const members = ["events", "metadata", "content", "snapshots", "tasks"] as const satisfies DaemonProcess[];

/** A score that this process may be given, and a lower one that takes a capability. */
const score = scoreOf(process.pid) + 100;
/** CAP_SYS_RESOURCE. @source linux/capability.h */
const mayLower = (BigInt(`0x${/^CapEff:\s*(\w+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]}`) >> 24n) & 1n;

let daemon: Daemon;
let directory: TemporaryDirectory;
let leaks: LeakSnapshot;
let config = "";

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("settings");
  config = `${directory.path}/live.toml`;
  writeFileSync(config, "version = 4\n");
  writeFileSync(
    `${directory.path}/lists.toml`,
    'version = 4\ndisabled_plugins = ["io.containerd.snapshotter.v1.native"]\n',
  );
  daemon = await startFlotilla({
    config: `
imports = ["${directory.path}/*.toml"]
temp = "${directory.path}/temp"
oom_score = ${score}
required_plugins = ["io.containerd.snapshotter.v1.overlayfs"]
[plugins."io.containerd.monitor.container.v1.restart"]
  interval = "1h"
`,
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

test("the whole fleet has the score for running out of memory, and a shim one more", async () => {
  for (const name of ["gateway", ...members] as const) {
    assert.equal(scoreOf(pidOf(name)), score, name);
  }
  const image = await busyboxImage();
  await daemon.ctr("images", "import", image.tar);
  const { exitCode, stderr } = await daemon.ctr("run", "-d", image.name, "scored", "sleep", "100");
  assert.equal(exitCode, 0, stderr);
  const shim = listProcesses().find(({ command }) => command.includes("containerd-shim") && command.includes("scored"));
  assert.equal(scoreOf(shim?.pid ?? assert.fail("no shim")), score + 1);
  await daemon.ctr("tasks", "kill", "-s", "SIGKILL", "scored");
});

test("a score that may not be had is told, and the daemon runs on", {
  skip: mayLower === 1n && "this process has CAP_SYS_RESOURCE",
}, async () => {
  await using lower = await startFlotilla({ config: `oom_score = ${scoreOf(process.pid) - 100}` });
  assert.match(lower.log(), /lowering it takes CAP_SYS_RESOURCE.*failed to change OOM score to -?\d+/);
  assert.equal(scoreOf(lower.pidOf("gateway") ?? 0), scoreOf(process.pid));
});

test("a lower score than the daemon was started with is had", {
  skip: mayLower !== 1n && "this machine gives no CAP_SYS_RESOURCE, which lowering oom_score_adj takes",
}, async () => {
  await using lower = await startFlotilla({ config: `oom_score = ${scoreOf(process.pid) - 100}` });
  assert.equal(scoreOf(lower.pidOf("gateway") ?? 0), scoreOf(process.pid) - 100);
});

test("temporary files of all processes lie in the directory that the configuration names", () => {
  assert.equal(statSync(`${directory.path}/temp`).mode & 0o777, 0o700);
  for (const name of members) {
    assert.match(readFileSync(`/proc/${pidOf(name)}/environ`, "utf8"), new RegExp(`TMPDIR=${directory.path}/temp\0`));
  }
});

test("a disabled plugin is not there, and a required one that is not there keeps the daemon from starting", async () => {
  const { plugins } = await createClient(Introspection, daemon.transport).plugins({});
  const ids = plugins.filter(({ type }) => type === "io.containerd.snapshotter.v1").map(({ id }) => id);
  assert.ok(ids.includes("overlayfs"));
  assert.ok(!ids.includes("native"));
  await assert.rejects(
    startFlotilla({ config: 'required_plugins = ["io.containerd.snapshotter.v1.magic"]' }),
    /required plugin \[io\.containerd\.snapshotter\.v1\.magic\] not included/,
  );
});

test("SIGHUP has the fleet read its configuration again: what can change changes, what cannot is told", async () => {
  const pids = members.map(pidOf);
  const isDetailed = (): boolean => /level=debug|"level":"debug"/.test(daemon.log());
  assert.ok(!isDetailed());
  await reload(
    `version = 4
oom_score = ${score + 1}
[debug]
  level = "debug"
[timeouts]
  "io.containerd.timeout.task.state" = "9s"
[plugins."io.containerd.gc.v1.scheduler"]
  deletion_threshold = 7
  startup_delay = "2s"
`,
    /startup_delay.*this setting has changed and holds from the next start on/,
  );
  const told = daemon.log();
  assert.match(told, /debug\.level.*io\.containerd\.timeout\.task\.state.*deletion_threshold.*configuration reloaded/);
  assert.match(told, /oom_score.*this setting has changed and holds from the next start on/);
  assert.deepEqual(members.map(pidOf), pids, "nobody was started again");
  // The processes tell of failed calls at that level.
  await daemon.ctr("tasks", "kill", "nobody");
  await until(isDetailed, () => `nothing is told at the new level:\n${daemon.log()}`);

  await reload('version = 4\n[debug]\n  level = "loud"\n', /not a valid logrus Level.*configuration is not reloaded/);
  assert.equal((await daemon.ctr("version")).exitCode, 0);
  await reload("version = 4\n", /configuration reloaded/);
});

test("the collector goes by what is read again", async () => {
  const scheduler = (delay: string): string =>
    `version = 4\n[plugins."io.containerd.gc.v1.scheduler"]\n  deletion_threshold = 1\n  schedule_delay = "${delay}"\n`;
  await reload(scheduler("1h0m0s"), /schedule_delay.*configuration reloaded/);
  const blobs = async (): Promise<string> => (await daemon.ctr("content", "ls", "-q")).stdout;
  await daemon.ctr("containers", "rm", "scored");
  const image = await busyboxImage();
  await daemon.ctr("images", "rm", image.name);
  assert.notEqual(await blobs(), "");
  await reload(scheduler("0s"), /schedule_delay.*configuration reloaded/);
  await until(
    async () => (await blobs()) === "",
    () => "nothing is collected",
  );
});

test("what a process can't make anything of changes nothing there, and is told", async () => {
  const differ = '[plugins."io.containerd.service.v1.diff-service"]\n  default = ["nobody"]\n';
  await reload(`version = 4\n${differ}`, /needed differ not loaded: nobody.*a process has not reloaded/);
  const image = await busyboxImage();
  assert.equal((await daemon.ctr("images", "import", image.tar)).exitCode, 0);
  await reload("version = 4\n", /configuration reloaded/);
});

test("the monitor of containers looks as often as is read again", async () => {
  const image = await busyboxImage();
  const labels = ["--label", "containerd.io/restart.status=running"];
  const { exitCode, stderr } = await daemon.ctr("containers", "create", ...labels, image.name, "again", "sleep", "100");
  assert.equal(exitCode, 0, stderr);
  const interval = '[plugins."io.containerd.monitor.container.v1.restart"]\n  interval = "100ms"\n';
  await reload(`version = 4\n${interval}`, /restart.*interval.*configuration reloaded/);
  await until(
    async () => /^again\s+\d+\s+RUNNING/m.test((await daemon.ctr("tasks", "ls")).stdout),
    () => `the container does not run:\n${daemon.log()}`,
    60_000,
  );
  await reload("version = 4\n", /configuration reloaded/);
  await daemon.ctr("tasks", "rm", "--force", "again");
  await daemon.ctr("containers", "rm", "again");
});

test("pulls go by what is read again: who judges images, and where registries are", async () => {
  await using registry = await startRegistry();
  const image = await busyboxImage();
  const near = await registry.pushImage(image, "reload:test");
  const far = "127.0.0.1:1/reload:test";
  const client = new TransferClient(daemon.transport, daemon.namespace);
  await client.pull(near);
  await assert.rejects(client.pull(far));
  const pid = pidOf("transfer");

  mkdirSync(`${directory.path}/certs.d/127.0.0.1:1`, { recursive: true });
  writeFileSync(`${directory.path}/certs.d/127.0.0.1:1/hosts.toml`, `server = "http://${registry.host}"\n`);
  const hosts = `[plugins."io.containerd.transfer.v1.local"]\n  config_path = "${directory.path}/certs.d"\n`;
  await reload(`version = 4\n${hosts}`, /config_path.*configuration reloaded/);
  await client.pull(far);

  mkdirSync(`${directory.path}/judges`);
  writeFileSync(`${directory.path}/judges/strict`, "#!/bin/sh\necho not this one\nexit 1\n", { mode: 0o755 });
  const judges = `[plugins."io.containerd.image-verifier.v1.bindir"]\n  bin_dir = "${directory.path}/judges"\n`;
  await reload(`version = 4\n${judges}`, /bin_dir.*configuration reloaded/);
  await assert.rejects(client.pull(near), /verifier strict rejected image \(exit code 1\): not this one/);
  await assert.rejects(client.pull(far));

  await reload("version = 4\n", /configuration reloaded/);
  await client.pull(near);
  assert.equal(pidOf("transfer"), pid, "it was not started again");
});

/** Writes the file, sends the signal, and waits until the log tells something new. */
async function reload(text: string, expected: RegExp): Promise<void> {
  writeFileSync(config, text);
  const before = daemon.log().length;
  sendSignal(pidOf("gateway"), "SIGHUP");
  await until(
    () => expected.test(daemon.log().slice(before)),
    () => `the log does not tell:\n${daemon.log().slice(before)}`,
  );
}

function pidOf(name: DaemonProcess): number {
  return daemon.pidOf(name) ?? assert.fail(`${name} does not run`);
}

function scoreOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8"));
}
