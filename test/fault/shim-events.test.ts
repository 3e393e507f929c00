import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Events } from "#gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import { connectTtrpc, type TtrpcClient } from "#wire/ttrpc/client.ts";
import { type Daemon, type DaemonProcess, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { until } from "../kit/processes.ts";
import { faultsIn } from "./log-faults.ts";
import { readStoredMessages } from "./stored-messages.ts";

/** How long a shim waits for the answer to an event. @source containerd v2.3.4 pkg/shim/publisher.go */
const shimPatienceMs = 5_000;
const tellers = ["one", "two", "three", "four"];
const killed: readonly DaemonProcess[] = ["events", "nats-server", "gateway", "nats-server", "events", "gateway"];
const progressBetween = 40;

let daemon: Daemon;
let leaks: LeakSnapshot;

before(async () => {
  leaks = await snapshotLeaks();
  daemon = await startFlotilla();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** Tells numbered events as a shim does: one after the other, again over a new connection when the old one is gone. */
class Teller {
  readonly namespace: string;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** How many events have been answered. */
  answered = 0;
  /** Why tries have failed, while the gateway lived. */
  readonly failures: unknown[] = [];
  isGatewayDead = false;

  constructor(namespace: string) {
    this.namespace = namespace;
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    let shim: TtrpcClient | undefined;
    while (!this.#stop.signal.aborted) {
      const envelope = {
        timestamp: { seconds: 1_700_000_000n, nanos: this.answered },
        namespace: this.namespace,
        topic: `/told/${this.answered}`,
        event: { typeUrl: "test.Event", value: Buffer.from("{}") },
      };
      try {
        shim ??= await connectTtrpc(`${daemon.address}.ttrpc`);
        await shim.unary(Events.method.forward, { envelope }, { timeoutMs: shimPatienceMs });
        this.answered++;
      } catch (error) {
        shim?.close();
        shim = undefined;
        if (!this.isGatewayDead) {
          this.failures.push(error);
        }
        if (!isFailure(error, ErrorKind.Unavailable, ErrorKind.DeadlineExceeded)) {
          throw error;
        }
        await delay(20);
      }
    }
    shim?.close();
  }
}

test("what a shim was answered is stored once and in order, whoever is killed, and only the gateway's death is seen", async () => {
  const all = tellers.map((name) => new Teller(name));
  const progress = async (): Promise<void> => {
    const wanted = all.map(({ answered }) => answered + progressBetween);
    await until(
      () => all.every(({ answered }, index) => answered >= (wanted[index] ?? 0)),
      () => `shims are not answered:\n${daemon.log()}`,
      60_000,
    );
  };
  try {
    for (const name of killed) {
      await progress();
      const isGateway = name === "gateway";
      all.forEach((teller) => {
        teller.isGatewayDead = isGateway;
      });
      await daemon.kill9(name);
      if (isGateway) {
        await daemon.start();
        // What was under way when the gateway died has failed by now.
        await progress();
      }
      all.forEach((teller) => {
        teller.isGatewayDead = false;
      });
    }
    await progress();
  } finally {
    await Promise.all(all.map((teller) => teller.stop()));
  }
  assert.deepEqual(
    all.flatMap(({ failures }) => failures),
    [],
  );
  for (const { namespace, answered } of all) {
    const expected = Array.from({ length: answered }, (_, number) => `/told/${number}`);
    let stored: string[] = [];
    await until(
      async () => {
        const messages = await readStoredMessages(daemon);
        stored = messages.filter((message) => message.namespace === namespace).map(({ topic }) => topic);
        return stored.length >= answered;
      },
      () => `${stored.length} of ${answered} events of ${namespace} are stored`,
      60_000,
    );
    assert.deepEqual(stored, expected);
  }
});

test("the log tells of nothing worse than the deaths", () => {
  assert.deepEqual(faultsIn(daemon.log()), []);
});
