import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { CollectionScheduler, type RunOutcome, type SchedulerConfig } from "./schedule.ts";

const defaults: SchedulerConfig = {
  pauseThreshold: 0.02,
  deletionThreshold: 0,
  mutationThreshold: 100,
  scheduleDelayMs: 0,
  startupDelayMs: 100,
};

/** After a collection that took no time: 5 ms are 2 % of 250 ms. */
const intervalMs = 245;

/** A scheduler whose timers move by hand and whose collections end by hand. */
class Stand {
  readonly scheduler: CollectionScheduler;
  runs = 0;
  readonly failures: unknown[] = [];
  outcome: RunOutcome = { busyMs: 0, unfinished: false };
  /** While set, a collection waits for it. */
  gate: PromiseWithResolvers<void> | undefined;
  readonly #context: TestContext;

  constructor(context: TestContext, config: Partial<SchedulerConfig> = {}) {
    context.mock.timers.enable({ apis: ["setTimeout"] });
    this.#context = context;
    const run = async (): Promise<RunOutcome> => {
      this.runs += 1;
      await this.gate?.promise;
      return this.outcome;
    };
    this.scheduler = new CollectionScheduler({ ...defaults, ...config }, run, (error) => this.failures.push(error));
    this.scheduler.start();
  }

  async pass(ms: number): Promise<void> {
    this.#context.mock.timers.tick(ms);
    await settle();
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) {
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
}

test("the first collection comes soon after the start", async (context) => {
  const stand = new Stand(context);
  await stand.pass(99);
  assert.equal(stand.runs, 0);
  await stand.pass(1);
  assert.equal(stand.runs, 1);
  await stand.pass(60_000);
  assert.equal(stand.runs, 1, "nothing happened, so nothing is collected");
});

test("a deletion is followed by a collection, changes are when there are many", async (context) => {
  const stand = new Stand(context);
  await stand.pass(100);
  for (let change = 0; change < 99; change += 1) {
    stand.scheduler.noteMutation(0);
  }
  await stand.pass(intervalMs);
  assert.equal(stand.runs, 1);
  stand.scheduler.noteMutation(0);
  await stand.pass(intervalMs);
  assert.equal(stand.runs, 2);
  stand.scheduler.noteMutation(1);
  await stand.pass(intervalMs - 1);
  assert.equal(stand.runs, 2);
  await stand.pass(1);
  assert.equal(stand.runs, 3);
});

test("collections take their share of the time, on average", async (context) => {
  const stand = new Stand(context);
  stand.outcome = { busyMs: 20, unfinished: false };
  await stand.pass(100);
  stand.scheduler.noteMutation(1);
  await stand.pass(979);
  assert.equal(stand.runs, 1);
  await stand.pass(1);
  assert.equal(stand.runs, 2);
});

test("a threshold of deletions has one run at once", async (context) => {
  const stand = new Stand(context, { deletionThreshold: 3 });
  await stand.pass(100);
  stand.scheduler.noteMutation(1);
  stand.scheduler.noteMutation(0);
  await stand.pass(1);
  assert.equal(stand.runs, 1);
  stand.scheduler.noteMutation(0);
  await stand.pass(0);
  assert.equal(stand.runs, 2, "once something was deleted, every change counts");
});

test("who waits gets a collection that began afterwards", async (context) => {
  const stand = new Stand(context, { scheduleDelayMs: 10 });
  stand.gate = Promise.withResolvers();
  await stand.pass(100);
  assert.equal(stand.runs, 1);
  const ended: string[] = [];
  const { signal } = new AbortController();
  const waiting = stand.scheduler.collect(signal).then(() => ended.push("waiter"));
  stand.gate.resolve();
  await settle();
  assert.deepEqual([stand.runs, ended], [1, []]);
  stand.gate = Promise.withResolvers();
  await stand.pass(10);
  assert.deepEqual([stand.runs, ended], [2, []]);
  stand.gate.resolve();
  await waiting;
  assert.deepEqual([stand.runs, ended], [2, ["waiter"]]);
});

test("who gives up waits no longer", async (context) => {
  const stand = new Stand(context);
  const controller = new AbortController();
  const waiting = stand.scheduler.collect(controller.signal);
  controller.abort(failure(ErrorKind.Canceled, ErrorKind.Canceled));
  await assert.rejects(waiting, (error) => isFailure(error, ErrorKind.Canceled));
});

test("a collection that fails is told to who waits, and tried again", async (context) => {
  const stand = new Stand(context);
  stand.gate = Promise.withResolvers();
  const waiting = stand.scheduler.collect(new AbortController().signal);
  await stand.pass(0);
  stand.gate.reject(new Error("disk"));
  await assert.rejects(waiting, { kind: ErrorKind.Unknown, message: "gc failed" });
  assert.equal(stand.failures.length, 1);
  stand.gate = undefined;
  await stand.pass(1_000);
  assert.equal(stand.runs, 2);
});

test("what is unfinished is taken up again", async (context) => {
  const stand = new Stand(context);
  stand.outcome = { busyMs: 0, unfinished: true };
  await stand.pass(100);
  stand.outcome = { busyMs: 0, unfinished: false };
  await stand.pass(intervalMs);
  await stand.pass(60_000);
  assert.equal(stand.runs, 2);
});

test("stopping waits for the collection that runs and lets nobody wait", async (context) => {
  const stand = new Stand(context);
  stand.gate = Promise.withResolvers();
  await stand.pass(100);
  const waiting = stand.scheduler.collect(new AbortController().signal);
  const stopped = stand.scheduler[Symbol.asyncDispose]();
  await assert.rejects(waiting, (error) => isFailure(error, ErrorKind.Unavailable));
  await assert.rejects(stand.scheduler.collect(new AbortController().signal), (error) =>
    isFailure(error, ErrorKind.Unavailable),
  );
  stand.gate.resolve();
  await stopped;
  stand.scheduler.noteMutation(1);
  await stand.pass(60_000);
  assert.equal(stand.runs, 1);
});

test("another configuration holds at once, also for what has been waiting", async (context) => {
  const stand = new Stand(context, { startupDelayMs: 0, deletionThreshold: 1, scheduleDelayMs: 3_600_000 });
  stand.scheduler.noteMutation(1);
  await stand.pass(60_000);
  assert.equal(stand.runs, 0);
  stand.scheduler.configure({ ...defaults, deletionThreshold: 1 });
  await stand.pass(1_000);
  assert.equal(stand.runs, 1);
});
