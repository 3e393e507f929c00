import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Call } from "#wire/handler.ts";
import { seededRandom } from "../fault/random.ts";
import { type EchoHandlers, openEchoClient } from "../kit/echo-service.ts";
import { buildRelayStand, type RelayStand, serveEcho } from "../kit/relay-stand.ts";

/** Sizes around those of frames and windows, so that deaths come amid messages. */
const sizes = [1, 60, 9_000, 16_384, 16_379, 70_000, 200_000];

function messageOf(number: number): Buffer {
  const message = Buffer.alloc(4 + (sizes[number % sizes.length] ?? 0), number);
  message.writeUInt32BE(number);
  return message;
}

/** Answers with numbered messages, and tells where it is before each `step` of them. */
function numbered(step: number, seen: (call: Call) => void = () => undefined): EchoHandlers {
  return {
    async *follow({ value }, call) {
      seen(call);
      const from = Number(call.id?.resumeAt ?? 0);
      for (let number = from; number < Number(value); number++) {
        if ((number - from) % step === 0) {
          call.resumeAt?.(String(number));
        }
        yield { value: messageOf(number) };
        if (number % 16 === 0) {
          await delay(1);
        }
      }
    },
  };
}

/** Serves as long as the signal does not abort, and dies again and again meanwhile. @returns how often it died. */
async function serveDying(
  stand: RelayStand,
  handlers: EchoHandlers,
  { livesMsMax, signal }: { readonly livesMsMax: number; readonly signal: AbortSignal },
): Promise<number> {
  const random = seededRandom();
  for (let deaths = 0; ; deaths++) {
    await using service = await serveEcho(stand, handlers);
    assert.ok(service);
    await delay(random.below(livesMsMax), undefined, { signal }).catch(() => undefined);
    if (signal.aborted) {
      return deaths;
    }
  }
}

for (const step of [1, 5]) {
  test(`a stream goes on byte by byte when its process dies again and again, with a point before each ${step}`, async () => {
    await using stand = await buildRelayStand();
    const stop = new AbortController();
    const dying = serveDying(stand, numbered(step), { livesMsMax: 60, signal: stop.signal });
    using client = openEchoClient(stand.socketPath);
    const clients = Array.from({ length: 3 }, async (_, index) => {
      let next = 0;
      for await (const { value } of client.follow({ value: 600n })) {
        assert.ok(messageOf(next).equals(value), `message ${next}`);
        next += 1;
        if (index === 0 && next % 50 === 0) {
          await delay(20);
        }
      }
      assert.equal(next, 600);
    });
    const outcomes = await Promise.allSettled(clients);
    stop.abort();
    const deaths = await dying;
    assert.deepEqual(
      outcomes.filter(({ status }) => status === "rejected"),
      [],
    );
    assert.ok(deaths > 3, `it died ${deaths} times`);
  });
}

test("a stream whose process told no point ends with it", async () => {
  await using stand = await buildRelayStand();
  using client = openEchoClient(stand.socketPath);
  const waits: EchoHandlers = {
    async *follow(_request, call) {
      yield { value: messageOf(0) };
      await new Promise((resolve) => call.signal.addEventListener("abort", resolve));
    },
  };
  const service = await serveEcho(stand, waits);
  const messages = client.follow({ value: 2n })[Symbol.asyncIterator]();
  await messages.next();
  await service[Symbol.asyncDispose]();
  await using next = await serveEcho(stand, waits);
  assert.ok(next);
  await assert.rejects(messages.next(), (error) => error instanceof ConnectError && error.code === Code.Unavailable);
});

test("where the next process can't go on, the stream ends with UNAVAILABLE", async () => {
  await using stand = await buildRelayStand();
  using client = openEchoClient(stand.socketPath);
  const service = await serveEcho(stand, {
    async *follow(_request, call) {
      call.resumeAt?.("1");
      yield { value: messageOf(0) };
      await new Promise((resolve) => call.signal.addEventListener("abort", resolve));
    },
  });
  const messages = client.follow({ value: 2n })[Symbol.asyncIterator]();
  await messages.next();
  await service[Symbol.asyncDispose]();
  await using next = await serveEcho(stand, {
    follow: () => {
      throw new Error("that is gone");
    },
  });
  assert.ok(next);
  await assert.rejects(
    messages.next(),
    (error) => error instanceof ConnectError && error.code === Code.Unavailable && /can't go on/.test(error.message),
  );
});

test("a stream that waited for its process says since when", async () => {
  await using stand = await buildRelayStand();
  using client = openEchoClient(stand.socketPath);
  const ages: (number | undefined)[] = [];
  const handlers = numbered(1, ({ id }) => ages.push(id?.repeatedAfterMs));
  const late = Array.fromAsync(client.follow({ value: 1n }));
  await delay(200);
  await using service = await serveEcho(stand, handlers);
  assert.ok(service);
  await late;
  await Array.fromAsync(client.follow({ value: 1n }));
  assert.ok((ages[0] ?? 0) >= 150, `${ages[0]} ms`);
  assert.equal(ages[1], undefined);
});
