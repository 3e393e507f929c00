import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, globSync, readdirSync, readlinkSync, symlinkSync, utimesSync } from "node:fs";
import { copyFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { sendSignal, until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

const repository = fileURLToPath(new URL("../../", import.meta.url));

let directory: TemporaryDirectory;
/** A repository of the test's own, which has no bundles yet. */
let copy: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  directory = await makeTemporaryDirectory("launcher");
  copy = `${directory.path}/repository`;
  for (const part of ["deploy", "services", "shared", "package.json", "package-lock.json"]) {
    cpSync(`${repository}${part}`, `${copy}/${part}`, { recursive: true });
  }
  for (const part of ["node_modules", ".node"].filter((name) => existsSync(`${repository}${name}`))) {
    symlinkSync(`${repository}${part}`, `${copy}/${part}`);
  }
});

afterEach(async () => {
  for (const { pid } of children.splice(0)) {
    if (pid !== undefined) {
      sendSignal(-pid, "SIGKILL");
    }
  }
  await directory[Symbol.asyncDispose]();
});

async function flotilla(...args: string[]): Promise<{ exitCode: number | undefined; stderr: string; stdout: string }> {
  const { exitCode, stdout, stderr } = await execa(`${copy}/deploy/flotilla`, args, { reject: false });
  return { exitCode, stdout, stderr };
}

async function assertRuns(): Promise<void> {
  const { stdout, stderr, exitCode } = await flotilla("--version");
  assert.deepEqual({ stderr, exitCode }, { stderr: "", exitCode: 0 });
  assert.match(stdout, /^containerd github\.com\/containerd\/containerd\/v2 v\S+/);
}

function bundleSets(): string[] {
  return readdirSync(`${copy}/.bundle`).filter((name) => name !== "current");
}

function currentSet(): string {
  return readlinkSync(`${copy}/.bundle/current`);
}

/** Starts a daemon in a process group of its own, and waits until its socket is there. */
async function startDaemon(): Promise<ChildProcess> {
  const child = spawn(
    `${copy}/deploy/flotilla`,
    ["--root", `${directory.path}/root`, "--state", `${directory.path}/state`, "--address", `${directory.path}/s.sock`],
    { stdio: "ignore", detached: true },
  );
  children.push(child);
  await until(
    () => existsSync(`${directory.path}/s.sock`),
    () => "the daemon does not come up",
    60_000,
  );
  return child;
}

/** Makes a source newer than every bundle. */
function touchSource(): void {
  const later = Date.now() / 1000 + 1;
  utimesSync(`${copy}/services/gateway/main.ts`, later, later);
}

test("bundles are made at the first start, and again when a source is newer", async () => {
  await assertRuns();
  const first = currentSet();
  await assertRuns();
  assert.equal(currentSet(), first);
  touchSource();
  await assertRuns();
  assert.notEqual(currentSet(), first);
  assert.deepEqual(bundleSets(), [currentSet()]);
});

test("what a daemon runs from stays while it runs", async () => {
  const daemon = await startDaemon();
  const first = currentSet();
  touchSource();
  await assertRuns();
  assert.deepEqual(bundleSets().sort(), [first, currentSet()].sort());
  const ended = new Promise((resolve) => daemon.once("exit", resolve));
  daemon.kill("SIGTERM");
  assert.equal(await ended, 0);
  touchSource();
  await assertRuns();
  assert.deepEqual(bundleSets(), [currentSet()]);
});

test("a daemon that is killed has left its compiled code for the next start", async () => {
  await startDaemon();
  // The name of the folder says for which Node.js the code is.
  const compiledParts = (): string[] =>
    globSync(`${copy}/.bundle/${currentSet()}/compiled/*/*`).filter((path) => !path.endsWith(".tmp"));
  await until(
    () => compiledParts().length > 0,
    () => "no compiled code while the daemon runs",
    30_000,
  );
});

test("a build that is killed leaves the bundles as they were, and the next one cleans up", async () => {
  await assertRuns();
  const first = currentSet();
  await writeFile(
    `${copy}/deploy/bundle.ts`,
    `import { writeFileSync } from "node:fs";
writeFileSync(process.argv[2] + "/services-gateway-main.js", "half a bun");
setInterval(() => undefined, 1000);
`,
  );
  const killed = spawn(`${copy}/deploy/flotilla`, ["--version"], { stdio: "ignore", detached: true });
  children.push(killed);
  await until(
    () => bundleSets().some((set) => set !== first && existsSync(`${copy}/.bundle/${set}/services-gateway-main.js`)),
    () => "nothing is built",
  );
  sendSignal(-(killed.pid ?? 0), "SIGKILL");
  assert.equal(currentSet(), first);
  await copyFile(`${repository}deploy/bundle.ts`, `${copy}/deploy/bundle.ts`);
  touchSource();
  await assertRuns();
  assert.deepEqual(bundleSets(), [currentSet()]);
});

test("a build that fails says so, and the start with it", async () => {
  await writeFile(`${copy}/services/gateway/main.ts`, "import { nothing } from './not-there.ts';\nnothing();\n");
  const { stderr, exitCode } = await flotilla("--version");
  assert.equal(exitCode, 1);
  assert.match(stderr, /not-there\.ts/);
  assert.match(stderr, /flotilla: the bundles could not be made/);
});

test("starts side by side make the bundles once", async () => {
  await Promise.all(Array.from({ length: 4 }, () => assertRuns()));
  assert.deepEqual(bundleSets(), [currentSet()]);
});

test("with FLOTILLA_SOURCES=1 the sources run as they are", async () => {
  await writeFile(`${copy}/services/gateway/main.ts`, `process.stdout.write(import.meta.filename);\n`);
  const { stdout } = await execa(`${copy}/deploy/flotilla`, [], { env: { FLOTILLA_SOURCES: "1" } });
  assert.equal(stdout, `${copy}/services/gateway/main.ts`);
  assert.equal(existsSync(`${copy}/.bundle`), false);
});

test("a member runs by itself, and one that is not there is refused", async () => {
  const member = `${copy}/deploy/flotilla-member`;
  const flags = ["--root", `${directory.path}/root`, "--state", `${directory.path}/state`, "--nonsense"];
  const { stderr } = await execa(member, ["content", ...flags], { reject: false });
  assert.match(stderr, /flag provided but not defined: -nonsense/);
  const refused = await execa(member, ["nobody"], { reject: false });
  assert.equal(refused.exitCode, 1);
  assert.equal(refused.stderr, "flotilla: there is no process named nobody");
});
