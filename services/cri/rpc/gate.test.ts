import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { Gate } from "./gate.ts";

const handlers = {
  version: () => ({ version: "1" }),
  async *streamPodSandboxes() {
    yield await Promise.resolve({ podSandboxes: [{ id: "a" }] });
  },
};

/** The handlers behind a gate, as whoever serves them calls them. */
function guard(gate: Gate): {
  readonly version: () => unknown;
  readonly streamPodSandboxes: () => AsyncIterable<unknown>;
} {
  return gate.guard(RuntimeService, handlers);
}

test("calls wait until the gate is open, and pass at once from then on", async () => {
  const gate = new Gate();
  const { version, streamPodSandboxes } = guard(gate);
  const asked = version();
  const first = streamPodSandboxes()[Symbol.asyncIterator]().next();
  gate.open();
  assert.deepEqual(await asked, { version: "1" });
  assert.deepEqual(await first, { done: false, value: { podSandboxes: [{ id: "a" }] } });
  assert.deepEqual(version(), { version: "1" });
});

test("a gate that stays closed refuses", async () => {
  await assert.rejects(
    async () => guard(new Gate(1)).version(),
    (error) =>
      isFailure(error, ErrorKind.Unavailable) && error.message === "server is not initialized yet: unavailable",
  );
});
