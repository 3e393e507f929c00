import assert from "node:assert/strict";
import { constants, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { type FileHandle, mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import type { ByteSink, ByteSource } from "./byte-streams.ts";
import { type ContainerIo, openContainerIo, recoverContainerIo } from "./container-io.ts";
import type { FifoPaths } from "./fifo-set.ts";

const lineBytesMax = 100;

function onLogFailure(error: unknown): never {
  throw error;
}

async function makeDirectory(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-container-io-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function openIo(t: TestContext, { tty = false, stdin = false } = {}): Promise<{ io: ContainerIo; log: string }> {
  const directory = await makeDirectory(t);
  const io = await openContainerIo({ id: "c1", stateDirectory: directory, tty, stdin, onLogFailure });
  t.after(() => io.close());
  return { io, log: join(directory, "0.log") };
}

/** Holds a pipe as a shim does: at both ends, until the process has ended. */
async function holdAsShim(t: TestContext, path: string): Promise<FileHandle> {
  const handle = await open(path, constants.O_RDWR | constants.O_NONBLOCK);
  t.after(() => handle.close().catch(() => undefined));
  return handle;
}

async function holdOutputs(t: TestContext, paths: FifoPaths): Promise<{ stdout: FileHandle; stderr: FileHandle }> {
  return { stdout: await holdAsShim(t, paths.stdout), stderr: await holdAsShim(t, paths.stderr) };
}

function collect(): { sink: ByteSink; text: () => string; ended: Promise<void> } {
  const pieces: Uint8Array[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const sink: ByteSink = {
    write: (bytes) => {
      pieces.push(bytes);
      return Promise.resolve();
    },
    end: () => {
      resolve();
      return Promise.resolve();
    },
  };
  return { sink, text: () => Buffer.concat(pieces).toString(), ended: promise };
}

async function* sourceOf(...texts: string[]): ByteSource {
  for (const text of texts) {
    yield Buffer.from(text);
  }
}

/** The entries of a log without their times. */
function entriesOf(path: string): string[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((entry) => {
      assert.match(entry, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z std(out|err) [FP] /);
      return entry.slice(entry.indexOf(" ") + 1);
    });
}

test("output of both streams goes to the log until the shim lets go of the pipes", async (t) => {
  const { io, log } = await openIo(t);
  const { stdout, stderr } = await holdOutputs(t, io.paths);
  io.startLog(log, lineBytesMax);
  await stdout.write("one\ntwo");
  await stderr.write("bad\n");
  await stdout.close();
  await stderr.close();
  await io.drained();
  assert.deepEqual(entriesOf(log).sort(), ["stderr F bad", "stdout F one", "stdout P two"]);
});

test("a terminal has one stream", async (t) => {
  const { io, log } = await openIo(t, { tty: true });
  assert.equal(io.paths.stderr, "");
  const stdout = await holdAsShim(t, io.paths.stdout);
  io.startLog(log, lineBytesMax);
  await stdout.write("one\r\n");
  await stdout.close();
  await io.drained();
  assert.deepEqual(entriesOf(log), ["stdout F one"]);
});

test("what a container puts out while nobody reads is there for the next who does", async (t) => {
  const { io, log } = await openIo(t);
  const { stdout, stderr } = await holdOutputs(t, io.paths);
  // Nothing closes the first one in order: as after kill -9, only its descriptors go.
  await stdout.write("before\n");
  const next = recoverContainerIo(io.paths, { onLogFailure });
  next.startLog(log, lineBytesMax);
  await stdout.write("after\n");
  await stdout.close();
  await stderr.close();
  await next.drained();
  assert.deepEqual(entriesOf(log), ["stdout F before", "stdout F after"]);
});

test("what a container has put out last is read when it has ended before, and its output ends then", async (t) => {
  const { io, log } = await openIo(t);
  const { stdout, stderr } = await holdOutputs(t, io.paths);
  // As `tasks` does until the task is deleted.
  const held = await open(io.paths.stdout, constants.O_RDONLY | constants.O_NONBLOCK);
  await stdout.write("last\n");
  await stdout.close();
  await stderr.close();
  const next = recoverContainerIo(io.paths, { onLogFailure });
  await held.close();
  next.startLog(log, lineBytesMax);
  await next.drained();
  assert.deepEqual(entriesOf(log), ["stdout F last"]);
});

test("a log that was moved away goes on in a new file", async (t) => {
  const { io, log } = await openIo(t);
  const { stdout, stderr } = await holdOutputs(t, io.paths);
  const attached = collect();
  io.startLog(log, lineBytesMax);
  void io.attach({ stdout: attached.sink }, { signal: new AbortController().signal });
  await stdout.write("one\n");
  while (attached.text() !== "one\n" || !existsSync(log) || readFileSync(log, "utf8") === "") {
    await new Promise(setImmediate);
  }
  renameSync(log, `${log}.1`);
  io.reopenLog();
  await stdout.write("two\n");
  await stdout.close();
  await stderr.close();
  await io.drained();
  assert.deepEqual(entriesOf(`${log}.1`), ["stdout F one"]);
  assert.deepEqual(entriesOf(log), ["stdout F two"]);
});

test("what a process was writing when it was killed stays a line of its own", async (t) => {
  const { io, log } = await openIo(t);
  writeFileSync(log, "2026-01-01T00:00:00Z stdout F hal");
  const { stdout, stderr } = await holdOutputs(t, io.paths);
  io.startLog(log, lineBytesMax);
  await stdout.write("whole\n");
  await stdout.close();
  await stderr.close();
  await io.drained();
  assert.match(readFileSync(log, "utf8"), /^2026-01-01T00:00:00Z stdout F hal\n\S+ stdout F whole\n$/);
});

test("several clients follow one container, and a client that goes leaves the others", async (t) => {
  const { io } = await openIo(t);
  const { stdout, stderr } = await holdOutputs(t, io.paths);
  io.startLog("", lineBytesMax);
  const [first, second] = [collect(), collect()];
  const leaving = new AbortController();
  const follows = [
    io.attach({ stdout: first.sink, stderr: first.sink }, { signal: leaving.signal }),
    io.attach({ stdout: second.sink }, { signal: new AbortController().signal }),
  ];
  await stdout.write("out");
  await stderr.write("err");
  while (first.text().length < 6 || second.text() !== "out") {
    await new Promise(setImmediate);
  }
  leaving.abort();
  await follows[0];
  await stdout.write("more");
  await stdout.close();
  await stderr.close();
  await follows[1];
  assert.equal(second.text(), "outmore");
  assert.equal(first.text().length, 6);
});

test("what a client sends reaches the container; its end is the container's when it is to be", async (t) => {
  const { io } = await openIo(t, { stdin: true });
  const { stdout, stderr } = await holdOutputs(t, io.paths);
  const stdin = await open(io.paths.stdin, constants.O_RDONLY | constants.O_NONBLOCK);
  t.after(() => stdin.close());
  io.startLog("", lineBytesMax);
  const closed = Promise.withResolvers<void>();
  const follow = io.attach(
    { stdin: sourceOf("in", "put"), stdout: collect().sink },
    {
      closeStdin: () => {
        closed.resolve();
        return Promise.resolve();
      },
      signal: new AbortController().signal,
    },
  );
  await closed.promise;
  const { buffer, bytesRead } = await stdin.read(Buffer.alloc(20), 0, 20);
  assert.equal(buffer.toString("utf8", 0, bytesRead), "input");
  assert.equal((await stdin.read(Buffer.alloc(20), 0, 20)).bytesRead, 0, "the input has ended");
  await stdout.close();
  await stderr.close();
  await follow;
});

test("a client whose input ends is let go of where the container's does not", async (t) => {
  const { io } = await openIo(t, { stdin: true });
  await holdOutputs(t, io.paths);
  await holdAsShim(t, io.paths.stdin);
  io.startLog("", lineBytesMax);
  const client = collect();
  await io.attach({ stdin: sourceOf("x"), stdout: client.sink }, { signal: new AbortController().signal });
  await client.ended;
});

test("the pipes are gone when it is closed", async (t) => {
  const { io } = await openIo(t, { stdin: true });
  io.startLog("", lineBytesMax);
  await io.close();
  await io.drained();
  assert.equal(existsSync(dirname(io.paths.stdout)), false);
});
