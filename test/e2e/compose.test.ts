import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { listCgroups, removeCgroups } from "../kit/container-traces.ts";
import { type CtrResult, type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

const deploy = fileURLToPath(new URL("../../deploy", import.meta.url));
const programs = ["dockerd", "docker", "docker-compose", "nats-server", "runc"];
const missing = programs.filter((program) => !isInstalled(program));
const skip = missing.length > 0 ? `not installed: ${missing.join(", ")}` : false;
const namespace = uniqueNamespace();
const processes = ["events", "metadata", "content", "snapshots", "tasks", "transfer", "gateway"];

let daemon: Daemon;
let dockerd: ChildProcess;
let directory: TemporaryDirectory;
let leaks: LeakSnapshot;

function isInstalled(program: string): boolean {
  return `${process.env["PATH"]}:/usr/sbin:/sbin`.split(":").some((place) => existsSync(`${place}/${program}`));
}

before(async () => {
  if (skip !== false) {
    return;
  }
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("compose");
  await execa(`${deploy}/compose/build-image.sh`, [`${directory.path}/image.tar`]);
  daemon = await startFlotilla();
  dockerd = await startDockerd();
  passes(await docker("load", "--input", `${directory.path}/image.tar`));
  await writeFile(`${directory.path}/override.yaml`, JSON.stringify({ services: overrides() }));
  passes(await compose("up", "--detach"));
});

after(async () => {
  if (dockerd !== undefined) {
    await compose("down", "--volumes", "--timeout", "5");
    const exited = once(dockerd, "exit");
    dockerd.kill("SIGTERM");
    await exited;
    await removeCgroups(listCgroups(namespace));
  }
  await daemon?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  if (leaks !== undefined) {
    await assertNoLeaks(leaks);
  }
});

/** Starts dockerd on Flotilla, without rules for packets: what is shared with the machine are bridges, which go with the networks. */
async function startDockerd(): Promise<ChildProcess> {
  const { path } = directory;
  const log = openSync(`${path}/dockerd.log`, "w");
  const places = ["data-root", "exec-root", "pidfile"].flatMap((name) => [`--${name}`, `${path}/docker-${name}`]);
  const cgroup = ["--cgroup-parent", `/${namespace}`];
  const spaces = ["--containerd-namespace", namespace, "--containerd-plugins-namespace", `${namespace}-plugins`];
  const child = spawn(
    "dockerd",
    [
      "--containerd",
      daemon.address,
      "--host",
      socket(),
      ...places,
      ...spaces,
      ...cgroup,
      "--iptables=false",
      "--bridge=none",
    ],
    { stdio: ["ignore", log, log] },
  );
  closeSync(log);
  await until(
    async () => (await docker("version")).exitCode === 0,
    () => `dockerd does not come up:\n${readFileSync(`${path}/dockerd.log`, "utf8").slice(-2_000)}`,
    30_000,
  );
  return child;
}

const socket = (): string => `unix://${directory.path}/docker.sock`;

async function run(program: string, ...args: string[]): Promise<CtrResult> {
  const options = { reject: false, timeout: 90_000, env: { DOCKER_HOST: socket() } };
  const { stdout, stderr, exitCode } = await execa(program, args, options);
  return { stdout, stderr, exitCode };
}

const docker = (...args: string[]): Promise<CtrResult> => run("docker", ...args);

/** docker-compose refuses what its schema does not know. */
const compose = (...args: string[]): Promise<CtrResult> => run("docker-compose", ...composeFlags(), ...args);

function composeFlags(): string[] {
  const files = [`${deploy}/docker-compose.yaml`, `${directory.path}/override.yaml`];
  return ["--project-name", namespace, ...files.flatMap((file) => ["--file", file])];
}

function passes({ stdout, stderr, exitCode }: CtrResult): string {
  assert.equal(exitCode, 0, `${stderr}\n${stdout}`);
  return stdout;
}

/**
 * What this machine needs otherwise: the NATS server of the image in place of the official one, since nothing is fetched; and where root has not all
 * capabilities, those that there are in place of all, which is what privileged asks for.
 */
function overrides(): object {
  const nats = { nats: { image: "flotilla:dev", entrypoint: ["nats-server"] } };
  const bounding = /^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const last = Number(readFileSync("/proc/sys/kernel/cap_last_cap", "utf8"));
  if (BigInt(`0x${bounding}`) === (1n << BigInt(last + 1)) - 1n) {
    return nats;
  }
  const most = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "IPC_LOCK", "SYSLOG", "MKNOD"];
  const unconfined = ["seccomp:unconfined", "apparmor:unconfined"];
  return { ...nats, tasks: { privileged: false, cap_add: most, security_opt: unconfined } };
}

/** Runs a program in the container of a process. */
const inside = (name: string, ...command: string[]): Promise<CtrResult> => compose("exec", "-T", name, ...command);

test("the services come up as containers, and answer as one daemon", { skip }, async () => {
  let last = "";
  await until(
    async () => {
      const { exitCode, stderr } = await inside("tasks", "ctr", "--connect-timeout", "2s", "version");
      last = stderr;
      return exitCode === 0;
    },
    () => `the fleet does not answer: ${last}`,
    60_000,
  );
  const plugins = passes(await inside("tasks", "ctr", "plugins", "ls"));
  assert.match(plugins, /^io\.containerd\.content\.v1 +content +\S+ +ok/m);
});

test("each container has its user and capabilities, and can gain no others", { skip }, async () => {
  for (const name of processes.filter((process) => process !== "tasks")) {
    const status = passes(await inside(name, "cat", "/proc/1/status"));
    const isRoot = name === "snapshots" || name === "gateway";
    assert.match(status, isRoot ? /^Uid:\t0\t/m : /^Uid:\t90\d\t/m, name);
    assert.match(status, /^NoNewPrivs:\t1$/m, name);
    if (!isRoot) {
      assert.match(status, /^CapBnd:\t0{16}$/m, name);
      assert.match(
        (await inside(name, "sh", "-c", ": >/usr/x")).stderr,
        /Read-only file system|Permission denied/,
        name,
      );
    }
  }
});

test("an image comes in, and a container runs in the fleet of containers", { skip }, async () => {
  const { tar } = await busyboxImage();
  const id = passes(await compose("ps", "--quiet", "tasks")).trim();
  passes(await docker("cp", tar, `${id}:/root/busybox.tar`));
  passes(await inside("tasks", "ctr", "-n", namespace, "images", "import", "/root/busybox.tar"));
  const image = "docker.io/library/busybox:test";
  const { stdout, stderr } = await inside("tasks", "ctr", "-n", namespace, "run", "--rm", image, "c", "echo", "inside");
  assert.equal(stdout.trim(), "inside", stderr);
});
