import assert from "node:assert/strict";
import { constants, readdirSync } from "node:fs";
import { type FileHandle, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { OciProcess } from "../containers/spec/oci-spec.ts";
import type { ByteSink } from "../logs/byte-streams.ts";
import type { ProcessStreams } from "../streaming/stream-runtime.ts";
import { type ExecParts, type ExecTasks, type ExecWishes, runInContainer } from "./exec-process.ts";

interface Joined {
  readonly stdout: FileHandle;
  readonly stderr: FileHandle | undefined;
  readonly stdin: string;
  readonly spec: { readonly args: string[]; readonly env: string[]; readonly terminal: boolean };
  exit(code: number): void;
}

/** Stands for the tasks process and its shims: holds the pipes of a process, and does with it what the test says. */
class FakeTasks {
  readonly calls: string[] = [];
  readonly #run: (process: Joined) => Promise<void>;
  readonly #exit = Promise.withResolvers<number>();
  #process: Joined | undefined;

  constructor(run: (process: Joined) => Promise<void>) {
    this.#run = run;
  }

  readonly client = {
    exec: async (request: { stdout: string; stderr: string; stdin: string; spec: { value: Uint8Array } }) => {
      this.calls.push("exec");
      const hold = (path: string): Promise<FileHandle> => open(path, constants.O_RDWR | constants.O_NONBLOCK);
      this.#process = {
        stdout: await hold(request.stdout),
        stderr: request.stderr === "" ? undefined : await hold(request.stderr),
        stdin: request.stdin,
        spec: JSON.parse(Buffer.from(request.spec.value).toString()) as Joined["spec"],
        exit: (code) => this.#exit.resolve(code),
      };
      return {};
    },
    start: () => {
      this.calls.push("start");
      if (this.#process !== undefined) {
        void this.#run(this.#process);
      }
      return Promise.resolve({});
    },
    wait: async () => ({ exitStatus: await this.#exit.promise }),
    kill: ({ signal }: { signal: number }) => {
      this.calls.push(`kill ${signal}`);
      this.#exit.resolve(137);
      return Promise.resolve({});
    },
    deleteProcess: async () => {
      this.calls.push("delete");
      await this.#process?.stdout.close().catch(() => undefined);
      await this.#process?.stderr?.close().catch(() => undefined);
      return {};
    },
    closeIO: () => {
      this.calls.push("closeIO");
      return Promise.resolve({});
    },
    resizePty: ({ width, height }: { width: number; height: number }) => {
      this.calls.push(`resize ${width}x${height}`);
      return Promise.resolve({});
    },
  };
}

async function run(
  t: TestContext,
  tasks: FakeTasks,
  wishes: Partial<Omit<ExecWishes, "streams">> & { streams?: Partial<ProcessStreams> },
  drainMs = 0,
): Promise<number> {
  const stateDirectory = await mkdtemp(join(tmpdir(), "flotilla-exec-"));
  t.after(() => rm(stateDirectory, { recursive: true, force: true }));
  const log = { error: assert.fail } as unknown as ExecParts["log"];
  const parts: ExecParts = { tasks: tasks.client as unknown as ExecTasks, drainMs, log };
  const findProcess = (): Promise<OciProcess> =>
    Promise.resolve({ cwd: "/", env: ["PATH=/bin", "TERM=dumb"], args: ["init"] } as unknown as OciProcess);
  try {
    return await runInContainer(
      parts,
      { id: "c1", stateDirectory, findProcess },
      {
        command: ["cmd", "arg"],
        timeoutMs: 0,
        signal: new AbortController().signal,
        ...wishes,
        streams: { tty: false, ...wishes.streams },
      },
    );
  } finally {
    assert.deepEqual(readdirSync(join(stateDirectory, "io")), [], "the pipes are gone");
  }
}

function collect(): { sink: ByteSink; text: () => string } {
  const pieces: Uint8Array[] = [];
  return {
    sink: {
      write: (bytes) => {
        pieces.push(bytes);
        return Promise.resolve();
      },
      end: () => Promise.resolve(),
    },
    text: () => Buffer.concat(pieces).toString(),
  };
}

async function leave({ stdout, stderr }: Joined): Promise<void> {
  await stdout.close();
  await stderr?.close();
}

test("a process gives its output and its exit code, and is removed", async (t) => {
  const [stdout, stderr] = [collect(), collect()];
  const tasks = new FakeTasks(async (process) => {
    assert.deepEqual(process.spec.args, ["cmd", "arg"]);
    assert.equal(process.spec.terminal, false);
    await process.stdout.write("out");
    await process.stderr?.write("err");
    process.exit(3);
    await process.stdout.write("late");
    await leave(process);
  });
  assert.equal(await run(t, tasks, { streams: { stdout: stdout.sink, stderr: stderr.sink } }), 3);
  assert.equal(stdout.text(), "outlate");
  assert.equal(stderr.text(), "err");
  assert.deepEqual(tasks.calls, ["exec", "start", "delete"]);
});

test("a process with a terminal has its size and TERM, and no stderr", async (t) => {
  const resized = Promise.withResolvers<void>();
  const tasks = new FakeTasks(async (process) => {
    assert.equal(process.spec.terminal, true);
    assert.deepEqual(process.spec.env, ["PATH=/bin", "TERM=xterm"]);
    assert.equal(process.stderr, undefined);
    await resized.promise;
    process.exit(0);
    await leave(process);
  });
  const resizes = (async function* () {
    yield { width: 80, height: 24 };
    resized.resolve();
  })();
  assert.equal(await run(t, tasks, { streams: { tty: true, resizes } }), 0);
  assert.ok(tasks.calls.includes("resize 80x24"));
});

for (const [when, goesAway] of [
  ["its end", false],
  ["the client's going away", true],
] as const) {
  test(`input waits for a shim that opens its end late, and ${when} ends that of the process`, async (t) => {
    const tasks = new FakeTasks(async (process) => {
      await delay(50);
      assert.equal(await readFile(process.stdin, "utf8"), "in");
      while (!tasks.calls.includes("closeIO")) {
        await delay(1);
      }
      process.exit(0);
      await leave(process);
    });
    const stdin = (async function* () {
      yield Buffer.from("in");
      if (goesAway) {
        throw new Error("the client has gone");
      }
    })();
    assert.equal(await run(t, tasks, { streams: { stdin } }), 0);
  });
}

test("input is handed on, and its end is that of the process", async (t) => {
  const tasks = new FakeTasks(async (process) => {
    const input = await readFile(process.stdin, "utf8");
    await process.stdout.write(`got ${input}`);
    while (!tasks.calls.includes("closeIO")) {
      await new Promise(setImmediate);
    }
    process.exit(0);
    await leave(process);
  });
  const stdin = (async function* () {
    yield Buffer.from("in");
    yield Buffer.from("put");
  })();
  const stdout = collect();
  assert.equal(await run(t, tasks, { streams: { stdin, stdout: stdout.sink } }), 0);
  assert.equal(stdout.text(), "got input");
});

test("a process that takes too long is killed, and that is said", async (t) => {
  const tasks = new FakeTasks(async () => undefined);
  await assert.rejects(run(t, tasks, { timeoutMs: 50 }), {
    kind: ErrorKind.DeadlineExceeded,
    message: "timeout 50ms exceeded: context deadline exceeded",
  });
  assert.deepEqual(tasks.calls, ["exec", "start", "kill 9", "delete"]);
});

test("a caller that goes has the process killed", async (t) => {
  const gone = new AbortController();
  const tasks = new FakeTasks(async () => gone.abort());
  await assert.rejects(run(t, tasks, { signal: gone.signal }), { kind: ErrorKind.Canceled });
  assert.deepEqual(tasks.calls, ["exec", "start", "kill 9", "delete"]);
});

test("pipes that a process left to others are waited for as long as is configured", async (t) => {
  const tasks = new FakeTasks(async (process) => process.exit(0));
  await assert.rejects(run(t, tasks, {}, 50), /io in 50ms because io is still held by other processes$/);
  assert.deepEqual(tasks.calls, ["exec", "start", "delete"]);
});

test("a client that takes no more does not hold the process up", async (t) => {
  const tasks = new FakeTasks(async (process) => {
    for (let round = 0; round < 64; round += 1) {
      while (
        !(await process.stdout.write(Buffer.alloc(4096)).then(
          () => true,
          () => false,
        ))
      ) {
        await new Promise(setImmediate);
      }
    }
    process.exit(0);
    await leave(process);
  });
  const stdout: ByteSink = { write: () => Promise.reject(new Error("gone")), end: () => Promise.resolve() };
  assert.equal(await run(t, tasks, { streams: { stdout } }), 0);
});

test("a process that can't be started is removed", async (t) => {
  const tasks = new FakeTasks(async () => undefined);
  tasks.client.start = () => Promise.reject(new FlotillaError(ErrorKind.Unknown, "no such program"));
  await assert.rejects(run(t, tasks, {}), /^FlotillaError: failed to start exec "[0-9a-f]{64}": no such program$/);
  assert.deepEqual(tasks.calls, ["exec", "kill 9", "delete"]);
});
