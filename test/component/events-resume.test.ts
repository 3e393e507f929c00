import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import net from "node:net";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { Envelope } from "#gen/containerd/types/event_pb.ts";
import { seededRandom } from "../fault/random.ts";
import { listProcesses, until } from "../kit/processes.ts";
import { type ListeningRelay, listenRelay } from "../kit/relay-stand.ts";
import { EventAppender, numberOf } from "./event-appender.ts";
import { Subscriber } from "./event-subscriber.ts";
import { EventsProcess, type FleetHome, makeFleetHome } from "./events-process.ts";

const method = { upstream: "events", repeatable: true, changing: false, streaming: true };
const routes = new Map([["/containerd.services.events.v1.Events/Subscribe", method]]);

/** The way of clients to the events process: a relay before it, as in the gateway. */
class Front implements AsyncDisposable {
  readonly #relay: ListeningRelay;
  readonly #socketPath: string;
  readonly #sessions: Http2SessionManager[] = [];

  private constructor(relay: ListeningRelay, socketPath: string) {
    this.#relay = relay;
    this.#socketPath = socketPath;
  }

  static async open(home: FleetHome, events: EventsProcess): Promise<Front> {
    const socketPath = `${home.directory}/front.sock`;
    const relay = await listenRelay({ socketPath, routes, heldMsMax: 30_000, socketOf: () => events.socketPath });
    return new Front(relay, socketPath);
  }

  /** A connection of a client of its own. */
  connect(): Transport {
    const createConnection = (): net.Socket => net.connect(this.#socketPath);
    const sessionManager = new Http2SessionManager("http://localhost", undefined, { createConnection });
    this.#sessions.push(sessionManager);
    return createGrpcTransport({ baseUrl: "http://localhost", sessionManager });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) {
      session.abort();
    }
    await this.#relay.close(0);
  }
}

/** The next events, each as its appender and number. */
async function read(subscriber: Subscriber, count: number, pauseMs = 0): Promise<string[]> {
  const seen: string[] = [];
  while (seen.length < count) {
    seen.push(nameOf(await subscriber.next()));
    if (pauseMs > 0 && seen.length % 100 === 0) {
      await delay(pauseMs);
    }
  }
  return seen;
}

function nameOf(event: Envelope): string {
  return `${event.namespace} ${numberOf(event)}`;
}

describe("subscribers and kill -9", () => {
  test("see one stream, with nothing lost, doubled or out of order", async (t) => {
    const random = seededRandom();
    t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
    await using home = await makeFleetHome();
    await using events = await EventsProcess.start(home);
    await using front = await Front.open(home, events);
    const filters = ["namespace==two"];
    await using all = await Subscriber.start(front.connect());
    await using slow = await Subscriber.start(front.connect());
    await using two = await Subscriber.start(front.connect(), { filters });
    const replayed = { headers: { "flotilla-since-sequence": "1" } };
    await using replay = await Subscriber.start(front.connect(), replayed);
    const appenders = ["one", "two", "three"].map(
      (name, index) => new EventAppender(name, () => events.transport, 1 + 20 * index),
    );
    const stopped = new AbortController();
    const seen: string[] = [];
    const reading = (async () => {
      while (!stopped.signal.aborted || seen.length < total(appenders)) {
        seen.push(nameOf(await all.next()));
      }
    })();
    reading.catch(() => undefined);
    try {
      for (let kills = 0; kills < 8; kills++) {
        await delay(random.below(700));
        if (random.below(3) === 0) {
          await events.killNats();
        } else {
          await events.kill();
          await events.restart();
        }
      }
    } finally {
      await Promise.all(appenders.map((appender) => appender.stop()));
      stopped.abort();
    }
    const { appended: ofTwo } = appenders[1] as EventAppender;
    // One more, so that who waits for the next event sees that there is none but it.
    const last = new EventAppender("last", () => events.transport, 1);
    await last.progress(1);
    await last.stop();
    await reading;
    await using stored = await Subscriber.start(events.transport, replayed);
    const expected = await read(stored, total(appenders));
    assert.deepEqual(seen.slice(0, expected.length), expected);
    assert.deepEqual(await read(slow, expected.length, 1), expected);
    assert.deepEqual(await read(replay, expected.length), expected);
    const expectedOfTwo = expected.filter((name) => name.startsWith("two "));
    assert.equal(expectedOfTwo.length, ofTwo);
    assert.deepEqual(await read(two, ofTwo), expectedOfTwo);
  });

  test("end when the stream of events is another", async () => {
    await using home = await makeFleetHome();
    await using events = await EventsProcess.start(home);
    await using front = await Front.open(home, events);
    await using subscriber = await Subscriber.start(front.connect());
    const appender = new EventAppender("one", () => events.transport, 1);
    await appender.progress(5);
    await appender.stop();
    await read(subscriber, appender.appended);
    const nats = events.natsPid;
    await events.kill();
    await until(
      () => listProcesses().every(({ pid }) => pid !== nats),
      () => "nats-server lives on",
      10_000,
    );
    await rm(`${home.directory}/root/io.flotilla.events.v1.nats/jetstream`, { recursive: true });
    await events.restart();
    await assert.rejects(
      subscriber.next(),
      (error) => error instanceof ConnectError && error.code === Code.Unavailable,
    );
  });
});

function total(appenders: readonly EventAppender[]): number {
  return appenders.reduce((sum, { appended }) => sum + appended, 0);
}
