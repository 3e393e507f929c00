import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { WorkerPool } from "./worker-pool.ts";

const never = new AbortController().signal;

test("a job whose thread dies fails with the reason, and the next job gets another thread", async () => {
  const program = new URL(
    `data:text/javascript,${encodeURIComponent(`
      import { parentPort } from "node:worker_threads";
      parentPort.on("message", ({ job, port }) => {
        if (job.input.root === "die") {
          throw new RangeError("out of something");
        }
        port.postMessage({ kind: "done", result: job.input });
        port.close();
      });
    `)}`,
  );
  await using pool = new WorkerPool(1, program);
  await assert.rejects(pool.run("measure", { root: "die", base: undefined }, never), (error: unknown) => {
    assert.ok(isFailure(error, ErrorKind.Unavailable), String(error));
    assert.equal(error.message, "the thread that did the work has ended: out of something: unavailable");
    assert.ok(error.cause instanceof RangeError);
    return true;
  });
  assert.deepEqual(await pool.run("measure", { root: "live", base: undefined }, never), {
    root: "live",
    base: undefined,
  } as never);
});

test("an error of the system keeps its code on the way from the thread", async () => {
  await using pool = new WorkerPool(1);
  await assert.rejects(pool.run("measure", { root: "/nowhere/at/all", base: undefined }, never), {
    code: "ENOENT",
    kind: ErrorKind.Unknown,
  });
});

test("threads that are prepared are there before their jobs, and no more of them than may be", async (context) => {
  const directory = await mkdtemp(`${tmpdir()}/flotilla-threads-`);
  context.after(() => rm(directory, { recursive: true }));
  const program = new URL(
    `data:text/javascript,${encodeURIComponent(`
      import { writeFileSync } from "node:fs";
      import { parentPort, threadId } from "node:worker_threads";
      writeFileSync(${JSON.stringify(directory)} + "/" + threadId, "");
      parentPort.on("message", ({ port }) => {
        port.postMessage({ kind: "done", result: threadId });
        port.close();
      });
    `)}`,
  );
  await using pool = new WorkerPool(2, program);
  pool.prepare(5);
  for (const deadline = performance.now() + 10_000; (await readdir(directory)).length < 2; ) {
    assert.ok(performance.now() < deadline, "the threads did not start");
    await delay(10);
  }
  pool.prepare(5);
  const used = await Promise.all(["a", "b"].map((root) => pool.run("measure", { root, base: undefined }, never)));
  assert.deepEqual((await readdir(directory)).sort(), used.map(String).sort());
});
