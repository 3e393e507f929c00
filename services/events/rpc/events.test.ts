import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create, fromBinary } from "@bufbuild/protobuf";
import { SubscribeRequestSchema } from "#gen/containerd/services/events/v1/events_pb.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import type { CallId } from "#wire/call-id.ts";
import { EncodedResponses } from "#wire/handler.ts";
import type { NewEvent } from "../bus/bus.ts";
import { MemoryBus } from "../bus/memory.ts";
import { eventHandlers } from "./events.ts";

const eventNamed = (name: string): NewEvent => ({
  messageId: name,
  envelope: create(EnvelopeSchema, { namespace: "n", topic: `/${name}` }),
});

/** The first topics that a call gets, and the points that it told before each. */
async function follow(bus: MemoryBus, id: CallId, count: number): Promise<string[]> {
  const stop = new AbortController();
  const seen: string[] = [];
  const call = {
    id,
    signal: stop.signal,
    header: () => undefined,
    resumeAt: (point: string) => seen.push(point),
  };
  const request = create(SubscribeRequestSchema, { filters: ['topic!="/unwanted"'] });
  for await (const answer of eventHandlers(bus).subscribe(request, call)) {
    assert.ok(answer instanceof EncodedResponses);
    seen.push(...answer.messages.map(({ bytes }) => fromBinary(EnvelopeSchema, bytes).topic));
    count -= answer.messages.length;
    if (count === 0) {
      break;
    }
  }
  stop.abort();
  return seen;
}

test("a subscription that is asked for again begins when it was asked for first, or where it was", async () => {
  const bus = new MemoryBus();
  await bus.append([eventNamed("before")]);
  await delay(20);
  const beganMs = Date.now();
  await delay(20);
  await bus.append(["first", "unwanted", "second"].map(eventNamed));
  await delay(20);
  const repeatedAfterMs = Date.now() - beganMs;
  assert.deepEqual(await follow(bus, { id: "a", repeatedAfterMs }, 2), ["memory/2", "/first", "memory/4", "/second"]);
  assert.deepEqual(await follow(bus, { id: "a", repeatedAfterMs, resumeAt: "memory/3" }, 1), [
    "memory/3",
    "memory/4",
    "/second",
  ]);
});
