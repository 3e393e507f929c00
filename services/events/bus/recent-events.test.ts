import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ErrorKind } from "#base/errors.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { RecentEvents } from "./recent-events.ts";

const envelope = create(EnvelopeSchema);
const mebibyte = 1024 * 1024;

test("what follows any place is the next event, nothing, or with the store", () => {
  const steps = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 40 });
  fc.assert(
    fc.property(fc.nat(5), steps, fc.nat(200), (start, gaps, asked) => {
      const recent = new RecentEvents(start);
      const sequences = gaps.map((gap) => (start += gap));
      const first = recent.last;
      for (const sequence of sequences) {
        recent.add({ sequence, envelope }, mebibyte);
      }
      const kept = sequences.slice(-8);
      const floor = sequences.length > 8 ? (sequences.at(-9) ?? 0) : first;
      const following = recent.after(asked);
      if (asked < floor) {
        assert.equal(following.kind, "behind");
      } else {
        const next = kept.find((sequence) => sequence > asked);
        assert.equal(following.kind === "event" ? following.event.sequence : following.kind, next ?? "none");
      }
    }),
  );
});

test("at most 4096 events are kept, however small, and old ones are let go", () => {
  const recent = new RecentEvents(0);
  for (let sequence = 1; sequence <= 10_000; sequence++) {
    recent.add({ sequence, envelope }, 1);
  }
  assert.equal(recent.after(10_000 - 4097).kind, "behind");
  assert.equal(recent.after(10_000 - 4096).kind, "event");
});

test("an event that is known is left out", () => {
  const recent = new RecentEvents(5);
  recent.add({ sequence: 5, envelope }, 1);
  assert.equal(recent.after(5).kind, "none");
  assert.equal(recent.after(4).kind, "behind");
});

test("who waits is woken by news, by the signal and by the end", async () => {
  const recent = new RecentEvents(0);
  const stop = new AbortController();
  const byNews = recent.news(0, stop.signal);
  recent.add({ sequence: 1, envelope }, 1);
  await byNews;
  const bySignal = recent.news(1, stop.signal);
  stop.abort();
  await bySignal;
  const byEnd = recent.news(1, new AbortController().signal);
  recent.end(new Error("replaced"));
  await byEnd;
  assert.throws(() => recent.after(1), { kind: ErrorKind.Unavailable, message: "replaced: unavailable" });
});
