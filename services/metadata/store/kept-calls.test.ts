import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { TestStores } from "../gc/test-stores.ts";
import { keptCallsMax, keptMsMax } from "./kept-calls.ts";

function open(): {
  readonly rig: TestStores;
  /** Makes a call of one change after another. @returns the outcomes, and how many changes were made. */
  call(id: string, options?: { readonly repeatedAfterMs?: number; readonly changes?: number }): Promise<unknown[]>;
  /** How many changes were made. */
  made(): number;
} & Disposable {
  const rig = new TestStores();
  const { records } = rig.stores;
  let made = 0;
  return {
    rig,
    made: () => made,
    call: (id, { repeatedAfterMs, changes = 1 } = {}) =>
      records.calls.answer({ id, repeatedAfterMs }, async () => {
        const outcomes: unknown[] = [];
        for (let change = 0; change < changes; change += 1) {
          outcomes.push(await records.write(() => ({ bytes: Buffer.from([1]), made: BigInt(++made) })));
        }
        return outcomes;
      }),
    [Symbol.dispose]: () => rig[Symbol.dispose](),
  };
}

const forgotten = (error: unknown): boolean => isFailure(error, ErrorKind.Unavailable);

test("a call that is made again gets the outcome of the first time, and each of its changes its own", async () => {
  using calls = open();
  const first = await calls.call("a", { changes: 2 });
  assert.deepEqual(await calls.call("a", { changes: 2, repeatedAfterMs: 5 }), first);
  assert.equal(calls.made(), 2);
  await calls.call("b", { repeatedAfterMs: 5 });
  assert.equal(calls.made(), 3);
});

test("a change that failed is tried again", async () => {
  using calls = open();
  const { records } = calls.rig.stores;
  const call = (repeatedAfterMs: number | undefined, change: () => string): Promise<string> =>
    records.calls.answer({ id: "a", repeatedAfterMs }, () => records.write(change));
  const refuse = (): never => {
    throw new Error("no");
  };
  await assert.rejects(call(undefined, refuse));
  assert.equal(await call(5, () => "yes"), "yes");
});

test("what is forgotten is not taken for not done", async () => {
  using calls = open();
  await calls.call("old");
  await assert.rejects(calls.call("unknown", { repeatedAfterMs: keptMsMax + 1 }), forgotten);
  calls.rig.nowMs += 1_000;
  await Promise.all(Array.from({ length: keptCallsMax + 100 }, (_, number) => calls.call(`c${number}`)));
  const { database } = calls.rig.stores.records;
  const count = database.prepare<[], number>("SELECT count(*) FROM kept_calls").pluck().get() ?? 0;
  assert.ok(count <= keptCallsMax + 16, `${count} are kept`);
  const before = calls.made();
  calls.rig.nowMs += 1_000;
  await assert.rejects(calls.call("old", { repeatedAfterMs: 2_000 }), forgotten);
  assert.equal(calls.made(), before);
  await calls.call("young", { repeatedAfterMs: 10 });
  assert.equal(calls.made(), before + 1);
});

test("after a while nothing is left of calls", async () => {
  using calls = open();
  await Promise.all(Array.from({ length: 100 }, (_, number) => calls.call(`c${number}`)));
  calls.rig.nowMs += keptMsMax + 1;
  await Promise.all(Array.from({ length: 80 }, (_, number) => calls.call(`d${number}`)));
  const { database } = calls.rig.stores.records;
  assert.equal(database.prepare<[], number>("SELECT count(*) FROM kept_calls WHERE call LIKE 'c%'").pluck().get(), 0);
});
