import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { ErrorKind } from "#base/errors.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";
import { JetStreamBus } from "../../services/events/bus/jetstream.ts";
import type { Link } from "../../services/events/bus/link.ts";
import { dialNats } from "../../services/events/bus/nats.ts";
import { request } from "../../services/events/bus/stream.ts";
import { EventReader, eventNamed, Stop } from "../conformance/event-bus.suite.ts";
import { EventAppender, numberOf } from "./event-appender.ts";
import { Subscriber } from "./event-subscriber.ts";
import { EventsProcess, makeFleetHome } from "./events-process.ts";
import { NatsServer } from "./nats-server.ts";

/** Checks that the next events are all that the appenders have appended, once each, those of each appender in its order. */
async function assertComplete(subscriber: Subscriber, appenders: readonly EventAppender[]): Promise<void> {
  const next = new Map(appenders.map(({ name }) => [name, 0]));
  const total = appenders.reduce((sum, { appended }) => sum + appended, 0);
  for (let count = 0; count < total; count++) {
    const event = await subscriber.next();
    assert.equal(numberOf(event), next.get(event.namespace), `event ${count} is of ${event.namespace}`);
    next.set(event.namespace, numberOf(event) + 1);
  }
}

async function stopAll(appenders: readonly EventAppender[]): Promise<void> {
  await Promise.all(appenders.map((appender) => appender.stop()));
}

const sinceStart = { headers: { "flotilla-since-sequence": "1" } };

describe("events and kill -9", () => {
  test("of nats-server under load: nothing is lost, doubled or out of order, and subscribers see no break", async () => {
    await using home = await makeFleetHome();
    await using events = await EventsProcess.start(home);
    await using live = await Subscriber.start(events.transport);
    const appenders = ["one", "two", "three"].map(
      (name, index) => new EventAppender(name, () => events.transport, 1 + 20 * index),
    );
    try {
      for (let kills = 0; kills < 4; kills++) {
        await appenders[1]?.progress(400);
        await events.killNats();
      }
      await appenders[1]?.progress(400);
    } finally {
      await stopAll(appenders);
    }
    await assertComplete(live, appenders);
    await using replay = await Subscriber.start(events.transport, sinceStart);
    await assertComplete(replay, appenders);
  });

  test("of the events process under load: nothing is lost, doubled or out of order", async () => {
    await using home = await makeFleetHome();
    await using events = await EventsProcess.start(home);
    const appenders = ["one", "two", "three"].map(
      (name, index) => new EventAppender(name, () => events.transport, 1 + 20 * index),
    );
    try {
      for (let kills = 0; kills < 4; kills++) {
        await appenders[1]?.progress(400);
        await events.kill();
        await events.restart();
      }
      await appenders[1]?.progress(400);
    } finally {
      await stopAll(appenders);
    }
    assert.ok(
      appenders.some(({ failures }) => failures > 0),
      "no append was interrupted",
    );
    await using replay = await Subscriber.start(events.transport, sinceStart);
    await assertComplete(replay, appenders);
  });

  test("subscribers of a process that ends are told so", async () => {
    await using home = await makeFleetHome();
    await using events = await EventsProcess.start(home);
    await using subscriber = await Subscriber.start(events.transport);
    const next = assert.rejects(subscriber.next());
    assert.equal(await events.stop(), 0, events.log);
    await next;
  });
});

describe("bounds of the events process", () => {
  test("a subscriber that does not read costs no memory and loses nothing", async () => {
    await using home = await makeFleetHome("retention_bytes = 1073741824");
    await using events = await EventsProcess.start(home, ["--expose-gc", "--import", collectOnSignal]);
    await using stalled = await Subscriber.start(events.transport);
    const log = createClient(EventLog, events.transport);
    const value = Buffer.alloc(128 * 1024, 7);
    const total = 2_400;
    const before = await residentBytes(events);
    for (let number = 0; number < total; number += 50) {
      await log.append({
        records: Array.from({ length: 50 }, (_, index) => ({
          messageId: `big-${number + index}`,
          envelope: { namespace: "big", topic: `/n/${number + index}`, event: { typeUrl: "test.Big", value } },
        })),
      });
    }
    const grownBytes = (await residentBytes(events)) - before;
    assert.ok(grownBytes < (total * value.length) / 2, `${grownBytes} bytes more than before`);
    for (let number = 0; number < total; number++) {
      assert.equal((await stalled.next()).topic, `/n/${number}`);
    }
    const readBytes = (await residentBytes(events)) - before;
    assert.ok(readBytes < (total * value.length) / 2, `${readBytes} bytes more than before`);
  });

  test("while NATS is away, appends fail in time, and go on when it is back", async () => {
    await using nats = await NatsServer.start();
    await nats.kill();
    await using bus = new JetStreamBus(busOptions(() => dialNats(nats.address)));
    await assert.rejects(bus.ready(500), {
      kind: ErrorKind.Unavailable,
      message: /^the event stream is not there: no connection to NATS at nats:\/\/127\.0\.0\.1:\d+: unavailable$/,
    });
    await nats.restart();
    await bus.ready(10_000);
    using stop = new Stop();
    const reader = new EventReader(await bus.subscribe({ kind: "now" }, stop.signal));
    await bus.append([eventNamed("first")]);
    await nats.kill();
    const lost = eventNamed("second");
    await assert.rejects(bus.append([lost]), { kind: ErrorKind.Unavailable });
    await nats.restart();
    await bus.append([lost]);
    assert.deepEqual(await reader.topics(2), ["/suite/first", "/suite/second"]);
  });

  test("who waits for the stream while tries to reach it fail gets on when one succeeds", async () => {
    await using nats = await NatsServer.start();
    const options = busOptions(() => dialNats(nats.address));
    {
      await using first = new JetStreamBus(options);
      await first.append([eventNamed("kept")]);
    }
    let failuresLeft = 0;
    const fails = Promise.withResolvers<void>();
    await using bus = new JetStreamBus({
      ...options,
      dial: () => {
        if (failuresLeft > 0) {
          failuresLeft -= 1;
          fails.resolve();
          return Promise.reject(new Error("no way"));
        }
        return dialNats(nats.address);
      },
    });
    await bus.ready(10_000);
    failuresLeft = 3;
    await nats.kill();
    await fails.promise;
    using stop = new Stop();
    const reader = new EventReader(await bus.subscribe({ kind: "sequence", sequence: 1 }, stop.signal));
    const topics = reader.topics(1);
    await nats.restart();
    assert.deepEqual(await topics, ["/suite/kept"]);
  });

  test("a server that goes away while the newest events are looked up fails no append", async () => {
    await using nats = await NatsServer.start();
    const options = busOptions(() => dialNats(nats.address));
    const event = eventNamed("once");
    {
      await using first = new JetStreamBus(options);
      await first.append([event]);
    }
    let breaksLeft = 3;
    await using bus = new JetStreamBus({
      ...options,
      waitMsMax: 10_000,
      dial: async () => {
        const link = await dialNats(nats.address);
        const ask: Link["ask"] = (question, onReply) => {
          if (question.subject.startsWith("$JS.API.DIRECT.GET.") && breaksLeft > 0) {
            breaksLeft -= 1;
            void link.close();
          }
          return link.ask(question, onReply);
        };
        return new Proxy(link, { get: (target, name) => (name === "ask" ? ask : bound(target, name as keyof Link)) });
      },
    });
    await bus.append([event, eventNamed("then")]);
    assert.equal(breaksLeft, 0);
    using stop = new Stop();
    const reader = new EventReader(await bus.subscribe({ kind: "sequence", sequence: 1 }, stop.signal));
    assert.deepEqual(await reader.topics(2), ["/suite/once", "/suite/then"]);
  });

  test("what a full account refuses waits until there is room", async () => {
    await using nats = await NatsServer.start({ max_file: 1024 * 1024 });
    const link = await dialNats(nats.address);
    const fillerOf = { name: "filler", subjects: ["filler"], storage: "file", retention: "limits" };
    await ask(link, "$JS.API.STREAM.CREATE.filler", JSON.stringify(fillerOf));
    const options = busOptions(() => dialNats(nats.address));
    await using bus = new JetStreamBus({ ...options, stream: { ...options.stream, retentionBytes: -1 } });
    await bus.append([eventNamed("fits")]);
    let refusal = "";
    while (!refusal.includes('"error"')) {
      refusal = await ask(link, "filler", Buffer.alloc(64 * 1024));
    }
    assert.match(refusal, /"code":400,"err_code":10002/);
    const waiting = eventNamed("waits", Buffer.alloc(96 * 1024));
    await assert.rejects(bus.append([waiting]), { kind: ErrorKind.Unavailable });
    await ask(link, "$JS.API.STREAM.PURGE.filler", "");
    await bus.append([waiting]);
    using stop = new Stop();
    const reader = new EventReader(await bus.subscribe({ kind: "sequence", sequence: 1 }, stop.signal));
    assert.deepEqual(await reader.topics(2), ["/suite/fits", "/suite/waits"]);
    await link.close();
  });

  test("what a stream never takes is refused at once, and holds up nothing", async () => {
    await using nats = await NatsServer.start();
    const link = await dialNats(nats.address);
    const small = { name: "faults", subjects: ["faults.>"], storage: "file", retention: "limits", max_msg_size: 4096 };
    await ask(link, "$JS.API.STREAM.CREATE.faults", JSON.stringify(small));
    await link.close();
    await using bus = new JetStreamBus(busOptions(() => dialNats(nats.address)));
    const [before, large, after] = [eventNamed("before"), eventNamed("large", Buffer.alloc(8192)), eventNamed("after")];
    const outcomes = await Promise.allSettled([before, large, after].map((event) => bus.append([event])));
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    await assert.rejects(bus.append([large]), { kind: ErrorKind.ResourceExhausted });
  });

  test("an event that was stored long ago is recognised by its message id", async () => {
    await using nats = await NatsServer.start();
    const event = eventNamed("once");
    const options = busOptions(() => dialNats(nats.address));
    {
      await using bus = new JetStreamBus(options);
      await bus.append([event]);
      // Longer than the server itself remembers.
      await delay(4 * options.stream.duplicateWindowMs);
    }
    await using bus = new JetStreamBus(options);
    await bus.append([event, eventNamed("then")]);
    using stop = new Stop();
    const reader = new EventReader(await bus.subscribe({ kind: "sequence", sequence: 1 }, stop.signal));
    assert.deepEqual(await reader.topics(2), ["/suite/once", "/suite/then"]);
  });

  test("who falls behind what is kept is told which events are gone", async () => {
    await using nats = await NatsServer.start();
    const options = busOptions(() => dialNats(nats.address));
    await using bus = new JetStreamBus({ ...options, stream: { ...options.stream, retentionBytes: 12 * 1024 * 1024 } });
    using stop = new Stop();
    const reader = new EventReader(await bus.subscribe({ kind: "now" }, stop.signal));
    await bus.append([eventNamed("seen")]);
    assert.deepEqual(await reader.topics(1), ["/suite/seen"]);
    const { start: position } = await bus.subscribe({ kind: "now" }, stop.signal);
    for (let number = 0; number < 40; number++) {
      await bus.append([eventNamed(`n${number}`, Buffer.alloc(1024 * 1024))]);
    }
    await assert.rejects(reader.next(), {
      kind: ErrorKind.DataLoss,
      message: /^events 2 to \d+ are no longer kept: data loss$/,
    });
    const again = new EventReader(await bus.subscribe({ kind: "position", position }, stop.signal));
    await assert.rejects(again.next(), { kind: ErrorKind.DataLoss, message: /^events 2 to/ });
    const kept = new EventReader(await bus.subscribe({ kind: "sequence", sequence: 1 }, stop.signal));
    const first = (await kept.next()).sequence;
    assert.ok(first > 2);
    await bus.append([eventNamed("end")]);
    const rest = await kept.topics(41 - first + 1);
    assert.equal(rest.at(-1), "/suite/end");
  });
});

/** A member of a link, whose methods know their object. */
function bound(link: Link, name: keyof Link): unknown {
  const value: unknown = link[name];
  return typeof value === "function" ? value.bind(link) : value;
}

/** Asks a NATS server something, or publishes to a stream. @returns the answer's body. */
async function ask(link: Link, subject: string, body: string | Buffer): Promise<string> {
  const { body: answer } = await request(link, { subject, headers: "", body: Buffer.from(body) });
  return Buffer.from(answer).toString();
}

/** Collects garbage when asked by a signal, since Node.js keeps buffers that nobody needs until half a gigabyte has gathered. */
const collectOnSignal = "data:text/javascript,process.on('SIGUSR2',()=>gc())";

/** Physical memory of a process without garbage. @source proc(5) `/proc/[pid]/statm` */
async function residentBytes(events: EventsProcess): Promise<number> {
  process.kill(events.pid, "SIGUSR2");
  await events.ready();
  const [, pages] = (await readFile(`/proc/${events.pid}/statm`, "utf8")).split(" ");
  return Number(pages) * 4096;
}

function busOptions(dial: () => ReturnType<typeof dialNats>) {
  return {
    dial,
    stream: {
      name: "faults",
      retentionAgeMs: 3_600_000,
      retentionBytes: 64 * 1024 * 1024,
      replicas: 1,
      duplicateWindowMs: 100,
    },
    origin: { source: "/flotilla/faults", host: "here" },
    waitMsMax: 700,
    isAlone: true,
    flush: undefined,
    onConnected: () => undefined,
    onDisconnected: () => undefined,
  };
}
