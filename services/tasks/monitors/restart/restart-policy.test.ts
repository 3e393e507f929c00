import assert from "node:assert/strict";
import test from "node:test";
import { BackOff } from "./back-off.ts";
import { isToRestart, restartCount } from "./restart-policy.ts";

const label = (name: string): string => `containerd.io/restart.${name}`;

test("each policy decides as containerd's does, and a user's stop wins", () => {
  const decide = (policy: string, exitStatus: number, more: Record<string, string> = {}) =>
    isToRestart({ [label("policy")]: policy, ...more }, exitStatus);
  assert.equal(isToRestart({}, 0), true, "always, unless told");
  assert.equal(decide("", 0), true);
  assert.equal(decide("always", 0), true);
  assert.equal(decide("unless-stopped", 0), true);
  assert.equal(decide("no", 1), false);
  assert.equal(decide("on-failure", 0), false);
  assert.equal(decide("on-failure", 137), true);
  assert.equal(decide("on-failure:2", 1, { [label("count")]: "1" }), true);
  assert.equal(decide("on-failure:2", 1, { [label("count")]: "2" }), false);
  for (const policy of ["always", "unless-stopped", "on-failure"]) {
    assert.equal(decide(policy, 1, { [label("explicitly-stopped")]: "true" }), false, policy);
    assert.equal(decide(policy, 1, { [label("explicitly-stopped")]: "false" }), true, policy);
  }
});

test("labels that make no sense are told in containerd's words", () => {
  const decide = (policy: string, count = ""): boolean | string =>
    isToRestart({ [label("policy")]: policy, [label("count")]: count }, 1);
  assert.equal(decide("sometimes"), 'restart policy "sometimes" not supported');
  assert.equal(decide("always:3"), 'restart policy "always" not support max retry count');
  assert.equal(decide("on-failure:x"), "invalid max retry count: x");
  assert.equal(decide("on-failure:2", "many"), "invalid restart count: many");
  assert.equal(restartCount({}), 0);
});

test("who fails at once waits twice as long each time, up to a bound, until it has run for a while", () => {
  let nowMs = 0;
  const backOff = new BackOff({ stepMs: () => 1000, maxMs: 5000, steadyMs: 10_000, now: () => nowMs });
  const waits: number[] = [];
  for (let start = 0; start < 6; start += 1) {
    const foundMs = nowMs;
    while (!backOff.isDue("a")) {
      nowMs += 500;
    }
    waits.push(nowMs - foundMs);
    backOff.started("a");
    nowMs += 100;
  }
  assert.deepEqual(waits, [0, 1000, 2000, 4000, 5000, 5000]);
  assert.equal(backOff.isDue("b"), true, "others do not wait");
  while (!backOff.isDue("a")) {
    nowMs += 500;
  }
  backOff.started("a");
  nowMs += 10_000;
  assert.equal(backOff.isDue("a"), true);
  backOff.started("a");
  backOff.keepOnly(new Set());
  assert.equal(backOff.isDue("a"), true, "it is forgotten with its container");
});
