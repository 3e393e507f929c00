import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import type { TypedMessage } from "./any.ts";
import { OpenStream } from "./stream.ts";

const message = (typeUrl: string): TypedMessage => ({ typeUrl, value: new Uint8Array() });

/** A client that never says a word. */
const silent: AsyncIterator<TypedMessage> = { next: () => new Promise(() => undefined) };

test("what was sent before a close arrives, and nothing after it", async () => {
  const stream = new OpenStream(silent);
  const received = Array.fromAsync(stream.messages(new AbortController().signal));
  const asked = stream.receive();
  await stream.send(message("a"));
  await stream.send(message("b"));
  await stream.close();
  assert.deepEqual(await received, [message("a"), message("b")]);
  assert.equal(await asked, undefined, "whoever waits for the client is told");
  await assert.rejects(stream.send(message("c")), (error) => isFailure(error, ErrorKind.Unavailable));
  assert.equal(await stream.receive(), undefined);
});

test("a sender waits for a client that takes nothing, until it has gone", async () => {
  const stream = new OpenStream(silent);
  const gone = new AbortController();
  const messages = stream.messages(gone.signal);
  const first = messages.next();
  for (let count = 0; count < 17; count += 1) {
    await stream.send(message(String(count)));
  }
  assert.deepEqual((await first).value, message("0"));
  const waiting = stream.send(message("too many"));
  gone.abort();
  await messages.return(undefined);
  await assert.rejects(waiting, (error) => isFailure(error, ErrorKind.Unavailable));
});

test("closing a stream whose client takes nothing ends all the same", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const stream = new OpenStream(silent);
  await stream.send(message("a"));
  const closed = stream.close();
  context.mock.timers.tick(5_000);
  await closed;
});
