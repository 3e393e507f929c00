import assert from "node:assert/strict";
import test, { mock } from "node:test";
import { IdleWatch } from "./idle-watch.ts";

const idleMs = 60_000;

test("a process is idle when no call is under way, none has come for some time, and it is not busy", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    let idle = 0;
    let isBusy = false;
    const watch = new IdleWatch({ idleMs, isBusy: () => isBusy, onIdle: () => (idle += 1) });
    const call = ["server", "/x.Y/Z", { find: () => undefined }] as const;
    mock.timers.tick(idleMs - 1);
    assert.equal(
      watch.observer.start?.("server", "/flotilla.fleet.v1.Member/Measure", call[2]),
      undefined,
      "the fleet's own",
    );
    const first = watch.observer.start?.(...call);
    mock.timers.tick(10 * idleMs);
    assert.equal(idle, 0, "a call is under way");
    const second = watch.observer.start?.(...call);
    first?.end(undefined, 0);
    mock.timers.tick(10 * idleMs);
    assert.equal(idle, 0, "another call is under way");
    second?.end(undefined, 0);
    mock.timers.tick(idleMs - 1);
    assert.equal(idle, 0, "the last call has just ended");
    isBusy = true;
    mock.timers.tick(10 * idleMs);
    assert.equal(idle, 0, "it is busy");
    isBusy = false;
    mock.timers.tick(idleMs);
    assert.equal(idle, 1);
    mock.timers.tick(10 * idleMs);
    assert.equal(idle, 1, "told once");
  } finally {
    mock.timers.reset();
  }
});
