import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import test, { type TestContext } from "node:test";
import { flockExclusive, sendSignal } from "./process.ts";
import { peerOf } from "./socket.ts";

function temporaryDirectory(context: TestContext): string {
  const path = mkdtempSync(`${tmpdir()}/flotilla-process-`);
  context.after(() => rmSync(path, { recursive: true }));
  return path;
}

test("a lock belongs to one open file at a time", (context) => {
  const path = `${temporaryDirectory(context)}/lock`;
  const [first, second] = [openSync(path, "w"), openSync(path, "w")];
  assert.equal(flockExclusive(first), true);
  assert.equal(flockExclusive(first), true);
  assert.equal(flockExclusive(second), false);
  closeSync(first);
  assert.equal(flockExclusive(second), true);
  closeSync(second);
  assert.throws(() => flockExclusive(second), { code: "EBADF" });
});

test("signals reach a process while there is one", async () => {
  const child = spawn("sleep", ["60"]);
  const pid = child.pid ?? assert.fail("no process");
  assert.equal(sendSignal(pid, 0), true);
  assert.equal(sendSignal(pid, 15), true);
  assert.deepEqual(await once(child, "exit"), [null, "SIGTERM"]);
  assert.equal(sendSignal(pid, 15), false);
});

test("the score for running out of memory is this process's and its children's; nonsense is refused", async () => {
  const program = `const { setOutOfMemoryScore } = await import("#linux/process.ts");
    setOutOfMemoryScore(700);
    process.stdout.write((await import("node:child_process")).execSync("cat /proc/self/oom_score_adj"));
    process.stdout.write(setOutOfMemoryScore(5000));`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { cwd: import.meta.dirname });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  await once(child, "close");
  assert.equal(Buffer.concat(chunks).toString(), "700\nit must lie between -1000 and 1000: invalid argument");
});

test("a socket tells who is at its other end", async (context) => {
  const path = `${temporaryDirectory(context)}/socket`;
  const server = net.createServer().listen(path);
  context.after(() => server.close());
  await once(server, "listening");
  const client = net.connect(path);
  context.after(() => client.destroy());
  const [accepted] = (await once(server, "connection")) as [net.Socket];
  assert.deepEqual(peerOf(accepted), { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
  accepted.destroy();
  await once(accepted, "close");
  assert.throws(() => peerOf(accepted), { message: "socket is closed: failed precondition" });
});
