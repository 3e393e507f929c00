import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { lstat, readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { execa } from "execa";
import { hostPlatform } from "#config/host-platform.ts";
import { confinementOf, setprivFlags } from "#fleet/confinement.ts";
import { type ProcessName, privateSocketOf, publicSocketOf } from "#fleet/process-name.ts";
import { rights } from "#fleet/rights.ts";
import { systemCallRules } from "#fleet/system-calls.ts";
import { separateUsers } from "#fleet/users.ts";
import { type Daemon, startFlotilla, userIds } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { type Registry, startRegistry } from "../kit/registry.ts";
import { TransferClient } from "../kit/transfer-client.ts";

let daemon: Daemon;
let registry: Registry;
let leaks: LeakSnapshot;
const namespace = uniqueNamespace();
const image = "docker.io/library/busybox:test";
const users = separateUsers(new Map(Object.entries(userIds)));
const members: readonly ProcessName[] = ["events", "metadata", "content", "snapshots", "tasks", "transfer"];

before(async () => {
  leaks = await snapshotLeaks();
  registry = await startRegistry();
  daemon = await startFlotilla({ hasOwnUsers: true });
  const busybox = await busyboxImage();
  const { exitCode, stderr } = await daemon.ctr("-n", namespace, "images", "import", busybox.tar);
  assert.equal(exitCode, 0, stderr);
  // This wakes the process that runs on demand.
  const reference = await registry.pushImage(busybox, "busybox:test");
  await new TransferClient(daemon.transport, namespace).pull(reference, { unpacks: [{ platform: hostPlatform() }] });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

async function runs(id: string): Promise<void> {
  const { stdout, stderr, exitCode } = await daemon.ctr("-n", namespace, "run", "--rm", image, id, "echo", "hello");
  assert.deepEqual([stdout, exitCode], ["hello\n", 0], stderr);
}

/** A line of `/proc/PID/status`, its words. */
function statusLine(pid: number, key: string): string[] {
  const line = readFileSync(`/proc/${pid}/status`, "utf8")
    .split("\n")
    .find((candidate) => candidate.startsWith(`${key}:`));
  return (line ?? "").split(/\s+/).slice(1).filter(Boolean);
}

test("each process has the user, the group and the capabilities of its rights, and no way to more", async () => {
  const header = await readFile("/usr/include/linux/capability.h", "utf8").catch(() => "");
  for (const name of members) {
    const pid = daemon.pidOf(name);
    assert.ok(pid !== undefined, `${name} runs`);
    const { user, capabilities } = rights[name];
    const [uid, gid] = user === "root" ? [0, 0] : [userIds[user], userIds["flotilla"]];
    assert.deepEqual(statusLine(pid, "Uid"), Array(4).fill(String(uid)), name);
    assert.deepEqual(statusLine(pid, "Gid"), Array(4).fill(String(gid)), name);
    if (capabilities === "all") {
      continue;
    }
    assert.deepEqual(statusLine(pid, "Groups"), user === "root" ? statusLine(process.pid, "Groups") : [], name);
    assert.deepEqual(statusLine(pid, "NoNewPrivs"), ["1"], name);
    const bits = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map((key) =>
      BigInt(`0x${statusLine(pid, key)[0]}`),
    );
    const [inheritable, permitted, effective, bounding, ambient] = bits;
    assert.deepEqual([inheritable, ambient], [0n, 0n], name);
    assert.equal(permitted, bounding, name);
    assert.equal(effective, bounding, name);
    assert.equal((bounding ?? 0n).toString(2).replaceAll("0", "").length, capabilities.length, name);
    for (const capability of header === "" ? [] : capabilities) {
      const number = new RegExp(`#define ${capability}\\s+(\\d+)`).exec(header)?.[1];
      assert.equal(((bounding ?? 0n) >> BigInt(number ?? -1)) & 1n, 1n, `${name} has ${capability}`);
    }
  }
  // The NATS server is a child of the events process and has no more than that.
  const nats = daemon.pidOf("nats-server") ?? 0;
  assert.deepEqual(statusLine(nats, "Uid")[0], String(userIds["flotilla-events"]));
  assert.deepEqual(statusLine(nats, "CapBnd"), ["0000000000000000"]);
});

test("the gateway gives up what it has no business with, and what it starts afterwards has what it needs", async () => {
  const gateway = daemon.pidOf("gateway") ?? 0;
  const setOf = (pid: number, key: string): bigint => BigInt(`0x${statusLine(pid, key)[0]}`);
  const bounding = setOf(process.pid, "CapBnd");
  const { capabilities } = rights.gateway;
  assert.ok(capabilities !== "all");
  const row = { CHOWN: 0n, DAC_OVERRIDE: 1n, FOWNER: 3n, KILL: 5n, SETGID: 6n, SETUID: 7n, SYS_RESOURCE: 24n };
  assert.deepEqual(Object.keys(row).toSorted(), capabilities.map((name) => name.slice("CAP_".length)).toSorted());
  const wanted = Object.values(row).reduce((set, number) => set | (1n << number), 0n) & bounding;
  assert.deepEqual([setOf(gateway, "CapPrm"), setOf(gateway, "CapEff")], [wanted, wanted]);
  assert.equal(setOf(gateway, "CapBnd"), bounding);
  const before = daemon.pidOf("tasks");
  await daemon.kill9("tasks");
  await until(
    () => ![undefined, before].includes(daemon.pidOf("tasks")),
    () => "tasks does not come back",
    30_000,
  );
  assert.equal(setOf(daemon.pidOf("tasks") ?? 0, "CapEff"), bounding);
  await runs("after");

  const [limits, mounts] = ["capabilities", "mount"].map((name) =>
    JSON.stringify(new URL(`../../shared/linux/${name}.ts`, import.meta.url).href),
  );
  const { stdout } = await execa(process.execPath, [
    "--input-type=module",
    "--eval",
    `import { execFileSync } from "node:child_process";
     const { keepCapabilities, rootHasCapabilities } = await import(${limits});
     const { mountOne } = await import(${mounts});
     if (!rootHasCapabilities()) throw new Error("root is nobody");
     keepCapabilities(${JSON.stringify(capabilities)});
     const place = ${JSON.stringify(`${daemon.state}/gateway`)};
     const mounted = await mountOne({ type: "tmpfs", source: "tmpfs", options: [] }, place).then(() => "mounted", String);
     const child = execFileSync("grep", ["CapEff", "/proc/self/status"], { encoding: "utf8" });
     process.stdout.write(JSON.stringify({ mounted, child }));`,
  ]);
  const { mounted, child } = JSON.parse(stdout) as { readonly mounted: string; readonly child: string };
  assert.match(mounted, /operation not permitted/);
  assert.equal(BigInt(`0x${child.split(/\s+/)[1]}`), bounding);
});

test("system calls that a process can do without are taken from it, all its threads and what it starts", async () => {
  const isFiltered = (pid: number): boolean[] =>
    readdirSync(`/proc/${pid}/task`).map((thread) => statusLine(Number(thread), "Seccomp")[0] === "2");
  for (const name of members) {
    const expected = systemCallRules(name) !== undefined;
    assert.equal(expected, rights[name].capabilities !== "all", name);
    const found = isFiltered(daemon.pidOf(name) ?? 0);
    assert.ok(
      found.every((each) => each === expected),
      name,
    );
  }
  assert.ok(isFiltered(daemon.pidOf("nats-server") ?? 0).every(Boolean));
  assert.doesNotMatch(daemon.log(), /system calls are not filtered/);
  const filter = new URL("../../shared/fleet/system-calls.ts", import.meta.url).href;
  const connect = async (name: ProcessName): Promise<string> =>
    await runAs(
      name,
      `import net from "node:net";
       const { giveUpSystemCalls } = await import(${JSON.stringify(filter)});
       process.stdout.write(giveUpSystemCalls("${name}") ?? "");
       net.connect(9, "127.0.0.1").on("error", ({ code }) => process.stdout.write(code, () => process.exit(0)));`,
    );
  for (const name of ["metadata", "content", "snapshots"] as const) {
    assert.equal(await connect(name), "EAFNOSUPPORT", name);
  }
  assert.equal(await connect("transfer"), "ECONNREFUSED");
});

test("sockets of processes are for their user and the group, and nobody else", async () => {
  for (const name of members) {
    for (const path of [publicSocketOf(daemon.state, name), privateSocketOf(daemon.state, name)]) {
      const { mode, uid, gid } = await lstat(path);
      assert.deepEqual([(mode & 0o777).toString(8), uid, gid], ["660", users.uidOf(name), users.gid], path);
    }
  }
});

/** Runs a script of Node.js with the rights of a process of the fleet. @returns what it prints. */
async function runAs(name: ProcessName, script: string): Promise<string> {
  const confinement = confinementOf(name, users);
  const flags = confinement === undefined ? [] : setprivFlags(confinement);
  const { stdout } = await execa("setpriv", [...flags, process.execPath, "--input-type=module", "--eval", script], {
    cwd: "/",
    timeout: 20_000,
  });
  return stdout;
}

/** What an act on a file ends with: `done` or the code of the error. */
async function tryAs(name: ProcessName, act: string): Promise<string> {
  return await runAs(
    name,
    `import fs from "node:fs"; try { ${act}; process.stdout.write("done"); } catch (error) { process.stdout.write(error.code); }`,
  );
}

test("a process reads no secret of another and writes in no directory of another", async () => {
  const { root } = daemon;
  const secrets = `${root}/io.flotilla.events.v1.nats`;
  const records = `${root}/io.containerd.metadata.v1.bolt`;
  const blobs = `${root}/io.containerd.content.v1.content`;
  const write = (path: string) => `fs.writeFileSync(${JSON.stringify(path)}, "x")`;
  const read = (path: string) => `fs.readFileSync(${JSON.stringify(path)})`;
  assert.equal(await tryAs("events", read(`${secrets}/server.json`)), "done");
  for (const other of ["content", "metadata", "transfer"] as const) {
    assert.equal(await tryAs(other, read(`${secrets}/server.json`)), "EACCES", other);
    assert.equal(await tryAs(other, `fs.readdirSync(${JSON.stringify(root)})`), "EACCES", other);
    assert.equal(await tryAs(other, write(`${root}/x`)), "EACCES", other);
    assert.equal(await tryAs(other, write(`${daemon.state}/x`)), "EACCES", other);
    assert.equal(await tryAs(other, `fs.rmSync(${JSON.stringify(privateSocketOf(daemon.state, "tasks"))})`), "EACCES");
  }
  assert.equal(await tryAs("metadata", read(`${records}/meta.db`)), "done");
  assert.equal(await tryAs("content", read(`${records}/meta.db`)), "EACCES");
  assert.equal(await tryAs("transfer", write(`${blobs}/blobs/x`)), "EACCES");
  assert.equal(await tryAs("metadata", write(`${blobs}/blobs/x`)), "EACCES");
  assert.equal(await tryAs("content", read(`/proc/${daemon.pidOf("metadata")}/environ`)), "EACCES");
  // The one thing that passes between them as files.
  const digest = (await daemon.ctr("-n", namespace, "content", "ls", "-q")).stdout.split("\n")[0]?.split(":")[1];
  assert.equal(await tryAs("transfer", read(`${blobs}/blobs/sha256/${digest}`)), "done");
});

/** Connects to a socket as a process and says whether it is let in: who is not is closed out without a word. */
async function comesIn(name: ProcessName, path: string): Promise<boolean> {
  const answer = await runAs(
    name,
    `import net from "node:net";
     const socket = net.connect(${JSON.stringify(path)});
     const end = (what) => process.stdout.write(what, () => process.exit(0));
     socket.on("data", () => end("in")).on("close", () => end("out")).on("error", (error) => end(error.code));
     socket.write("PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\x00\\x00\\x00\\x04\\x00\\x00\\x00\\x00\\x00");`,
  );
  assert.ok(["in", "out", "EPIPE", "ECONNRESET"].includes(answer), answer);
  return answer === "in";
}

test("a process comes in at the private sockets of those that its rights name, and at no public one", async () => {
  const confined = members.filter((name) => rights[name].user !== "root");
  for (const caller of confined) {
    for (const called of members) {
      // Its own user is let in where another process of it is.
      const expected = rights[caller].calls.includes(called);
      assert.equal(await comesIn(caller, privateSocketOf(daemon.state, called)), expected, `${caller} calls ${called}`);
    }
    assert.equal(await comesIn(caller, publicSocketOf(daemon.state, "tasks")), false, caller);
  }
});

test("the fleet works on after kill -9 of each process", async () => {
  for (const name of ["events", "metadata", "content", "snapshots", "tasks"] as const) {
    const before = daemon.pidOf(name);
    await daemon.kill9(name);
    await until(
      () => daemon.pidOf(name) !== undefined && daemon.pidOf(name) !== before,
      () => `${name} does not come back`,
      20_000,
    );
    await runs(`after-${name}`);
  }
});

test("a root changes hands when the users do, there and back", async () => {
  const configPath = `${daemon.root}/../config.toml`;
  const own = await readFile(configPath, "utf8");
  const blobs = `${daemon.root}/io.containerd.content.v1.content/blobs/sha256`;
  const records = `${daemon.root}/io.containerd.metadata.v1.bolt/meta.db`;
  const owners = async (): Promise<number[]> => [(await lstat(blobs)).uid, (await lstat(records)).uid];
  assert.deepEqual(await owners(), [users.uidOf("content"), users.uidOf("metadata")]);
  await daemon.stop();
  await writeFile(configPath, own.replace('users = "own"', 'users = "one"'));
  await daemon.start();
  assert.deepEqual(await owners(), [0, 0]);
  assert.deepEqual(statusLine(daemon.pidOf("content") ?? 0, "Uid")[0], "0");
  await runs("as-one");
  await daemon.stop();
  await writeFile(configPath, own);
  await daemon.start();
  assert.deepEqual(await owners(), [users.uidOf("content"), users.uidOf("metadata")]);
  await runs("as-own");
});
