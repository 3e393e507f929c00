import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, failure } from "#base/errors.ts";
import { ProgressSchema } from "#gen/containerd/types/transfer/progress_pb.ts";
import { type TypedMessage, unpackMessage } from "../streams/any.ts";
import type { Stream } from "../streams/stream.ts";
import { ProgressStream } from "./progress-stream.ts";

/** A client that takes a message when it is let. */
class Client implements Stream {
  readonly taken: string[] = [];
  isClosed = false;
  #gate: Promise<void> = Promise.resolve();

  /** Holds messages up until the returned function is called. */
  hold(): (error?: Error) => void {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#gate = promise;
    return (error) => (error === undefined ? resolve() : reject(error));
  }

  async send(message: TypedMessage): Promise<void> {
    await this.#gate;
    const { event, name, progress } = unpackMessage(ProgressSchema, message);
    this.taken.push(`${event} ${name} ${progress}`);
  }

  receive(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}

test("what is told at any moment before the end is sent before the stream is closed", async () => {
  for (let turns = 0; turns < 12; turns += 1) {
    const client = new Client();
    {
      await using progress = new ProgressStream(client);
      progress.sink({ event: "first" });
      for (let turn = 0; turn < turns; turn += 1) {
        await Promise.resolve();
      }
      progress.sink({ event: "last" });
    }
    assert.deepEqual(client.taken, ["first  0", "last  0"], `after ${turns} turns`);
    assert.equal(client.isClosed, true);
  }
});

test("a slow client gets every step, and of bytes the newest", async () => {
  const client = new Client();
  const go = client.hold();
  {
    await using progress = new ProgressStream(client);
    progress.sink({ event: "waiting", name: "a" });
    for (let bytes = 0; bytes < 1000; bytes += 1) {
      progress.sink({ event: "downloading", name: "a", progress: bytes });
    }
    progress.sink({ event: "complete", name: "a", progress: 1000 });
    go();
  }
  assert.deepEqual(client.taken, ["waiting a 0", "downloading a 999", "complete a 1000"]);
});

test("a client that has gone is told no more, and nobody is troubled", async () => {
  const client = new Client();
  const go = client.hold();
  await using progress = new ProgressStream(client);
  progress.sink({ event: "one" });
  go(failure(ErrorKind.Unavailable, "the stream is closed"));
  await new Promise((resolve) => setImmediate(resolve));
  progress.sink({ event: "two" });
  assert.deepEqual(client.taken, []);
});
