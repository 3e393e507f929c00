import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind } from "#base/errors.ts";
import { StoredEvent } from "../bus/bus.ts";
import { Place, readPlace } from "./place.ts";

function batch(from: number, count: number): StoredEvent[] {
  return Array.from(
    { length: count },
    (_, index) => new StoredEvent(from + index, Buffer.alloc(0), { namespace: "n", topic: "/t" }),
  );
}

test("a place is told once, in front of the batch that it begins with, and when much has gone by", () => {
  const told: string[] = [];
  const call = { header: () => undefined, signal: AbortSignal.any([]), resumeAt: (point: string) => told.push(point) };
  const place = new Place(call, { store: "s", sequence: 10 });
  place.tell();
  place.reach(batch(10, 3));
  place.tell();
  place.tell();
  place.reach(batch(13, 200));
  place.reach(batch(213, 60));
  place.tell();
  place.reach(batch(273, 64));
  place.reach(batch(480, 1));
  assert.deepEqual(told, ["s/10", "s/213", "s/480"]);
});

test("a place is read as it was told", () => {
  assert.deepEqual(readPlace("2026-11-28T05:00:00.5Z/17"), { store: "2026-11-28T05:00:00.5Z", sequence: 17 });
  for (const told of ["", "17", "/17", "s/", "s/1/2", "s/-1", "s/1234567890123456"]) {
    assert.throws(() => readPlace(told), { kind: ErrorKind.InvalidArgument });
  }
});
