import assert from "node:assert/strict";
import { closeSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import test from "node:test";
import { ErrorKind } from "#base/errors.ts";
import { ProgramFailure, type ProgramRun, runProgram } from "./program.ts";
import { openPipe } from "./program-streams.ts";

const timeoutMs = 20_000;

function shell(script: string, run: Partial<ProgramRun> = {}): ReturnType<typeof runProgram> {
  return runProgram({ path: "/bin/sh", args: ["-c", script, "name", "a b"], environment: {}, timeoutMs, ...run });
}

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Children that have ended and that nobody has waited for. */
function zombies(): string[] {
  return readdirSync("/proc").filter((name) => {
    try {
      const facts = /^\d+$/.test(name) ? readFileSync(`/proc/${name}/stat`, "utf8") : "";
      const [state, parent] = facts.slice(facts.lastIndexOf(")") + 2).split(" ");
      return state === "Z" && parent === String(process.pid);
    } catch {
      return false;
    }
  });
}

test("a program gets arguments, environment, directory and input, and its output comes back", async (context) => {
  const directory = mkdtempSync(`${realpathSync(tmpdir())}/flotilla-program-`);
  context.after(() => rmSync(directory, { recursive: true }));
  const input = Buffer.alloc(200_000, "ü");
  const { stdout, stderr } = await shell('echo "$1 $NAME $(pwd) $(wc -c)"; echo "$GONE-" >&2', {
    directory,
    input,
    environment: { NAME: "välue", GONE: undefined, PATH: process.env["PATH"] },
  });
  assert.equal(stdout.toString(), `a b välue ${directory} ${input.length}\n`);
  assert.equal(stderr.toString(), "-\n");
  const nothing = await shell("cat", { environment: { PATH: process.env["PATH"] } });
  assert.equal(nothing.stdout.length, 0, "input that is not given has an end");
});

test("it has a session of its own, all signals by default, and no descriptor of ours", async (context) => {
  const { reader, writer } = openPipe();
  context.after(() => [reader, writer].forEach((descriptor) => closeSync(descriptor)));
  const script =
    "read -r line </proc/self/stat; echo $line; while read -r line; do echo $line; done </proc/self/status; echo /proc/self/fd/*";
  const printed = (await shell(script)).stdout.toString();
  const [pid, , , , , session] = printed.split(" ");
  assert.equal(session, pid);
  assert.match(printed, /^SigBlk: 0+$/m);
  assert.match(printed, /^SigIgn: 0+$/m);
  const handed = printed.slice(printed.indexOf("/proc/self/fd/0"));
  assert.match(handed, /^\/proc\/self\/fd\/0 \/proc\/self\/fd\/1 \/proc\/self\/fd\/2\b/);
  for (const descriptor of [reader, writer]) {
    assert.doesNotMatch(handed, new RegExp(`/fd/${descriptor}\\b`));
  }
});

test("how it ended is told in the words of Go, with what it printed", async () => {
  await assert.rejects(shell("echo out; echo err >&2; exit 3"), (error) => {
    assert.ok(error instanceof ProgramFailure);
    assert.equal(error.message, "exit status 3");
    assert.deepEqual([error.output.stdout.toString(), error.output.stderr.toString()], ["out\n", "err\n"]);
    return true;
  });
  await assert.rejects(shell("kill -9 $$"), { message: "signal: killed", kind: ErrorKind.Unknown });
  await assert.rejects(shell("kill -40 $$"), { message: "signal: signal 40" });
});

test("one that is not there, or whose directory is not, cannot be started", async () => {
  const before = openDescriptors();
  for (const path of ["/nowhere/program", "no-such-program"]) {
    await assert.rejects(shell("", { path }), { message: `fork/exec ${path}: no such file or directory` });
  }
  await assert.rejects(shell("", { path: "/etc/passwd" }), { message: "fork/exec /etc/passwd: permission denied" });
  await assert.rejects(shell("", { directory: "/nowhere" }), /no such file or directory/);
  assert.equal(openDescriptors(), before);
});

test("a name is looked for in the path of the program's own environment", async () => {
  const { stdout } = await runProgram({
    path: "echo",
    args: ["found"],
    environment: { PATH: "/nowhere:/bin" },
    timeoutMs,
  });
  assert.equal(stdout.toString(), "found\n");
  await assert.rejects(
    runProgram({ path: "echo", args: [], environment: { PATH: "/nowhere" }, timeoutMs }),
    /no such file/,
  );
});

test("one that takes too long or prints too much is killed", async () => {
  await assert.rejects(shell("while :; do :; done", { timeoutMs: 50 }), { kind: ErrorKind.DeadlineExceeded });
  await assert.rejects(shell("exec >&- 2>&-; while :; do :; done", { timeoutMs: 50 }), {
    kind: ErrorKind.DeadlineExceeded,
  });
  await assert.rejects(shell("while :; do echo 0123456789012345678901234567890123456789; done"), {
    kind: ErrorKind.ResourceExhausted,
  });
});

test("one that is given up is killed, and not started where that was known before", async () => {
  const controller = new AbortController();
  const running = shell("while :; do :; done", { signal: controller.signal });
  controller.abort();
  await assert.rejects(running, { kind: ErrorKind.Canceled, message: "signal: killed" });
  await assert.rejects(shell("exit 0", { signal: controller.signal }), { name: "AbortError" });
});

test("many at once end, and nothing of them is left", async () => {
  const before = openDescriptors();
  const ended = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => (await shell(`echo ${index}`)).stdout.toString()),
  );
  assert.deepEqual(
    ended,
    Array.from({ length: 40 }, (_, index) => `${index}\n`),
  );
  for (let looks = 0; zombies().length > 0 && looks < 100; looks++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.deepEqual(zombies(), []);
  assert.equal(openDescriptors(), before);
});
