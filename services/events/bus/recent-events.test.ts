import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ErrorKind } from "#base/errors.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { StoredEvent } from "./bus.ts";
import { RecentEvents } from "./recent-events.ts";

function eventAt(sequence: number): StoredEvent {
  return new StoredEvent(sequence, new Uint8Array(), create(EnvelopeSchema));
}

const mebibyte = 1024 * 1024;

test("what follows any place is the next event, nothing, or with the store", () => {
  const steps = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 40 });
  fc.assert(
    fc.property(fc.nat(5), steps, fc.nat(200), (start, gaps, asked) => {
      const recent = new RecentEvents(start);
      const sequences = gaps.map((gap) => (start += gap));
      const first = recent.last;
      for (const sequence of sequences) {
        recent.add(eventAt(sequence), mebibyte);
      }
      const kept = sequences.slice(-8);
      const floor = sequences.length > 8 ? (sequences.at(-9) ?? 0) : first;
      const following = recent.after(asked);
      if (asked < floor) {
        assert.equal(following.kind, "behind");
      } else {
        const next = kept.filter((sequence) => sequence > asked);
        const given = following.kind === "events" ? following.events.map(({ sequence }) => sequence) : following.kind;
        assert.deepEqual(given, next.length === 0 ? "none" : next);
      }
    }),
  );
});

test("at most 4096 events are kept, however small, and old ones are let go", () => {
  const recent = new RecentEvents(0);
  for (let sequence = 1; sequence <= 10_000; sequence++) {
    recent.add(eventAt(sequence), 1);
  }
  assert.equal(recent.after(10_000 - 4097).kind, "behind");
  assert.equal(recent.after(10_000 - 4096).kind, "events");
});

test("an event that is known is left out", () => {
  const recent = new RecentEvents(5);
  recent.add(eventAt(5), 1);
  assert.equal(recent.after(5).kind, "none");
  assert.equal(recent.after(4).kind, "behind");
});

test("who waits is woken by news, by the signal and by the end", async () => {
  const recent = new RecentEvents(0);
  const stop = new AbortController();
  const byNews = recent.news(0, stop.signal);
  recent.add(eventAt(1), 1);
  await byNews;
  const bySignal = recent.news(1, stop.signal);
  stop.abort();
  await bySignal;
  const byEnd = recent.news(1, new AbortController().signal);
  recent.end(new Error("replaced"));
  await byEnd;
  assert.throws(() => recent.after(1), { kind: ErrorKind.Unavailable, message: "replaced: unavailable" });
});

test("what all have is forgotten, and left to the store", () => {
  const recent = new RecentEvents(0);
  for (const sequence of [1, 2, 3]) {
    recent.add(eventAt(sequence), 1);
  }
  recent.release(2);
  assert.equal(recent.after(1).kind, "behind");
  const following = recent.after(2);
  assert.deepEqual(following.kind === "events" && following.events.map(({ sequence }) => sequence), [3]);
  recent.release(Number.POSITIVE_INFINITY);
  assert.equal(recent.after(3).kind, "none");
  assert.equal(recent.last, 3);
  recent.add(eventAt(4), 1);
  assert.equal(recent.after(2).kind, "behind");
  assert.equal(recent.after(3).kind, "events");
});
