import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Code, ConnectError } from "@connectrpc/connect";
import { openEchoClient } from "../kit/echo-service.ts";
import { buildRelayStand } from "../kit/relay-stand.ts";

const program = fileURLToPath(new URL("../kit/echo-process.ts", import.meta.url));

/** A process that serves the echo service until it is killed. */
class EchoProcess implements AsyncDisposable {
  readonly #socketPath: string;
  #child: ChildProcess | undefined;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  async start(): Promise<void> {
    this.#child = fork(program, [this.#socketPath]);
    await once(this.#child, "message");
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

test("kill -9 of a process under load, again and again, fails no call that may be repeated", async () => {
  await using stand = await buildRelayStand({ heldMsMax: 60_000 });
  await using echo = new EchoProcess(stand.servicePath);
  await echo.start();
  using client = openEchoClient(stand.socketPath);
  const kills = 3;
  const load = { isOver: false, repeated: 0, failed: 0, succeeded: 0 };
  const repeat = async (index: number): Promise<void> => {
    const value = Buffer.alloc(1 + index * 2_500, index);
    while (!load.isOver) {
      const answer = await client.repeat({ value });
      assert.ok(Buffer.from(answer.value).equals(value));
      load.repeated += 1;
    }
  };
  const callOnce = async (call: () => Promise<unknown>): Promise<void> => {
    while (!load.isOver) {
      try {
        await call();
        load.succeeded += 1;
      } catch (error) {
        checkLost(error);
        load.failed += 1;
      }
    }
  };
  const callers = Promise.all([
    ...Array.from({ length: 6 }, (_, index) => repeat(index)),
    callOnce(() => client.unary({ value: Buffer.alloc(100) })),
    callOnce(() => Array.fromAsync(client.download({ value: 3_000_000n }))),
    callOnce(() => client.upload(blocks(20))),
  ]);
  const killer = async (): Promise<void> => {
    for (let kill = 0; kill < kills; kill++) {
      const repeatedBefore = load.repeated;
      while (load.repeated < repeatedBefore + 50) {
        await delay(5);
      }
      await echo.kill();
      await echo.start();
    }
    load.isOver = true;
  };
  await Promise.all([callers, killer()]);
  assert.ok(load.repeated >= kills * 50);
  assert.ok(load.succeeded > 0);
  assert.ok(load.failed > 0, "streams were cut");
});

async function* blocks(count: number): AsyncIterable<{ value: Uint8Array }> {
  for (let index = 0; index < count; index++) {
    yield { value: Buffer.alloc(50_000) };
  }
}

/** Checks that a call failed as one whose process died; a client that was amid a message says so in its own words. */
function checkLost(error: unknown): void {
  assert.ok(error instanceof ConnectError, String(error));
  assert.ok(error.code === Code.Unavailable || /incomplete envelope/.test(error.rawMessage), error.message);
}
