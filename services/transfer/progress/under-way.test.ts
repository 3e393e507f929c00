import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { UnderWay } from "./under-way.ts";

const facts = { namespace: "n", kind: "pull", subject: "r.example/a:1" } as const;
const never = new AbortController().signal;
const blob = (name: string, size: number) => ({
  name,
  total: size,
  descriptor: { mediaType: "x", digest: digestOf(name), size },
});

test("a transfer is listed with its bytes while it runs, and not afterwards", () => {
  const underWay = new UnderWay(() => 1_000);
  const first = underWay.begin(facts, never);
  using second = underWay.begin({ ...facts, kind: "import", subject: "" }, never);
  first.note({ event: "fetching image content", name: facts.subject });
  first.note({ event: "waiting", progress: 0, ...blob("a", 100) });
  first.note({ event: "downloading", progress: 30, ...blob("a", 100) });
  first.note({ event: "already exists", progress: 50, ...blob("b", 50) });
  first.note({ event: "extracting", progress: 7, ...blob("b", 50) });
  first.noteWaiting("x", 2);
  first.noteWaiting("y", 3);
  second.addBytes(10);
  second.addBytes(5);
  const shown = underWay.list().map((state) => ({ ...state, startedAtMs: 0 }));
  assert.deepEqual(shown, [
    { ...facts, startedAtMs: 0, id: 1, movedBytes: 80, knownBytes: 150, bytesPerSecond: 0, waitingClients: 3 },
    {
      ...facts,
      startedAtMs: 0,
      kind: "import",
      subject: "",
      id: 2,
      movedBytes: 15,
      knownBytes: 0,
      bytesPerSecond: 0,
      waitingClients: 0,
    },
  ]);
  first.noteWaiting("y", 0);
  assert.equal(underWay.list()[0]?.waitingClients, 2);
  first[Symbol.dispose]();
  assert.deepEqual(
    underWay.list().map(({ id }) => id),
    [2],
  );
});

test("the rate is that of the last seconds", () => {
  let nowMs = 0;
  const underWay = new UnderWay(() => nowMs);
  using transfer = underWay.begin(facts, never);
  const rate = (): number | undefined => underWay.list()[0]?.bytesPerSecond;
  for (nowMs = 500; nowMs <= 20_000; nowMs += 500) {
    transfer.addBytes(500);
  }
  nowMs = 20_000;
  assert.equal(rate(), 1_000);
  for (nowMs = 20_500; nowMs <= 40_000; nowMs += 500) {
    transfer.addBytes(5_000);
  }
  nowMs = 40_000;
  assert.equal(rate(), 10_000);
  nowMs = 45_000;
  assert.equal(rate(), 0);
});

test("a transfer is cancelled by its number, and waited for", async () => {
  const underWay = new UnderWay();
  const transfer = underWay.begin(facts, never);
  let isOver = false;
  const cancelling = underWay.cancel(1, never).then(() => {
    isOver = true;
  });
  assert.ok(isFailure(transfer.signal.reason, ErrorKind.Canceled));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isOver, false);
  transfer[Symbol.dispose]();
  await cancelling;
  await assert.rejects(underWay.cancel(1, never), (error) => isFailure(error, ErrorKind.NotFound));
});

test("the client ends its transfer, and who cancels need not wait for ever", async () => {
  const underWay = new UnderWay();
  const client = new AbortController();
  using transfer = underWay.begin(facts, client.signal);
  client.abort();
  assert.equal(transfer.signal.aborted, true);
  await assert.rejects(underWay.cancel(1, AbortSignal.abort()), (error) => isFailure(error, ErrorKind.Canceled));
});
