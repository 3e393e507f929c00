import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import type { NewEvent } from "./bus.ts";
import type { Link, Question, Reply, Ticket } from "./link.ts";
import { Publisher, type PublisherOptions, type TakenEvent } from "./publisher.ts";

/** What happens to the next message that reaches the stream. */
type Fate = "take" | "refuse" | "take and break" | "break";

const durable = { durability: "durable", waitMsMax: 10_000 } as const;

/** A stream as JetStream is one, whose link breaks and which refuses when told so. */
class FakeStream {
  readonly stored: string[] = [];
  answers = 0;
  readonly #fates: Fate[];

  constructor(fates: readonly Fate[]) {
    this.#fates = [...fates];
  }

  receive({ headers }: Question): { readonly body?: unknown; readonly breaks: boolean } {
    const id = /^Nats-Msg-Id: (.*)\r$/m.exec(headers)?.[1] ?? "";
    const previous = /^Nats-Expected-Last-Msg-Id: (.*)\r$/m.exec(headers)?.[1];
    const fate = this.#fates.shift() ?? "take";
    if (fate === "break") {
      return { breaks: true };
    }
    if (fate === "refuse") {
      return { body: { error: { code: 503, err_code: 10_077 } }, breaks: false };
    }
    const breaks = fate === "take and break";
    const known = this.stored.indexOf(id);
    if (known >= 0) {
      return { body: { seq: known + 1, duplicate: true }, breaks };
    }
    if (previous !== undefined && previous !== this.stored.at(-1)) {
      return { body: { error: { code: 400, err_code: 10_070 } }, breaks };
    }
    this.stored.push(id);
    return { body: { seq: this.stored.length }, breaks };
  }
}

class FakeLink implements Link {
  readonly messageBytesMax = 1_000_000;
  readonly closed: Promise<undefined>;
  readonly #stream: FakeStream;
  readonly #ended = Promise.withResolvers<undefined>();
  readonly #listeners = new Map<number, (reply: Reply) => void>();
  #asked = 0;
  #isBroken = false;

  constructor(stream: FakeStream) {
    this.#stream = stream;
    this.closed = this.#ended.promise;
  }

  onClose(): () => void {
    return () => undefined;
  }

  ask(question: Question, onReply: (reply: Reply) => void): Ticket {
    const ticket = ++this.#asked as Ticket;
    this.#listeners.set(ticket, onReply);
    setImmediate(() => this.#deliver(ticket, question));
    return ticket;
  }

  tell(question: Question): void {
    setImmediate(() => this.#deliver(undefined, question));
  }

  forget(ticket: Ticket): void {
    this.#listeners.delete(ticket);
  }

  close(): Promise<void> {
    this.#isBroken = true;
    this.#ended.resolve(undefined);
    return Promise.resolve();
  }

  #deliver(ticket: Ticket | undefined, question: Question): void {
    if (this.#isBroken) {
      return;
    }
    const { body, breaks } = this.#stream.receive(question);
    if (breaks) {
      void this.close();
      return;
    }
    if (ticket === undefined) {
      return;
    }
    this.#stream.answers++;
    this.#listeners.get(ticket)?.({
      status: 0,
      header: () => undefined,
      body: Buffer.from(JSON.stringify(body)),
    });
  }
}

function publisherOn(stream: FakeStream, changes: Partial<PublisherOptions> = {}) {
  const taken: TakenEvent[] = [];
  const publisher = new Publisher({
    isAlone: true,
    makeMessage: ({ messageId }) => ({
      subject: "s",
      headers: `Nats-Msg-Id: ${messageId}\r\n`,
      encoded: Buffer.from(messageId),
      body: Buffer.from(messageId),
    }),
    onTaken: (event) => taken.push(event),
    flush: () => Promise.resolve(),
    ...changes,
  });
  const connect = (): void => {
    const link = new FakeLink(stream);
    publisher.attach(link);
    void link.closed.then(() => {
      publisher.detach();
      setImmediate(connect);
    });
  };
  return { publisher, taken, connect };
}

function eventOf(messageId: string): NewEvent {
  return { messageId, envelope: create(EnvelopeSchema) };
}

test("whatever breaks, every event is stored once and in order", async () => {
  const fates = fc.array(
    fc.oneof(
      { weight: 12, arbitrary: fc.constant<Fate>("take") },
      { weight: 1, arbitrary: fc.constant<Fate>("refuse") },
      { weight: 2, arbitrary: fc.constantFrom<Fate[]>("take and break", "break") },
    ),
    { maxLength: 60 },
  );
  const batches = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(fates, batches, async (chosenFates, sizes) => {
      const stream = new FakeStream(chosenFates);
      const { publisher, taken, connect } = publisherOn(stream);
      let made = 0;
      const events = sizes.map((size) => Array.from({ length: size }, () => eventOf(`e${made++}`)));
      connect();
      await Promise.all(events.map((batch) => publisher.append(batch, durable)));
      const expected = events.flat().map(({ messageId }) => messageId);
      assert.deepEqual(stream.stored, expected);
      assert.deepEqual(
        taken.map(({ event }) => event.messageId),
        expected,
      );
    }),
    { numRuns: 60 },
  );
});

test("the stream answers once for many events where nobody else publishes, and for each elsewhere", async () => {
  for (const { isAlone, answers } of [
    { isAlone: true, answers: 1 + Math.ceil(299 / 128) },
    { isAlone: false, answers: 300 },
  ]) {
    const stream = new FakeStream([]);
    const { publisher, taken, connect } = publisherOn(stream, { isAlone });
    connect();
    const events = Array.from({ length: 300 }, (_, index) => eventOf(`e${index}`));
    await publisher.append(events, durable);
    assert.equal(stream.answers, answers);
    assert.deepEqual(
      taken.map(({ event, sequence }) => stream.stored[sequence - 1] === event.messageId),
      events.map(() => true),
    );
  }
});

test("an append fails in time when the stream is away, and its events are not sent later", async () => {
  const stream = new FakeStream([]);
  const { publisher, connect } = publisherOn(stream);
  await assert.rejects(publisher.append([eventOf("lost")], { ...durable, waitMsMax: 20 }), {
    kind: ErrorKind.Unavailable,
  });
  connect();
  await publisher.append([eventOf("kept")], durable);
  assert.deepEqual(stream.stored, ["kept"]);
});

test("an append is done when its events are durable, or stored if that is enough", async () => {
  const flushing = Promise.withResolvers<void>();
  const { publisher, connect } = publisherOn(new FakeStream([]), { flush: () => flushing.promise });
  connect();
  let done = 0;
  const first = publisher.append([eventOf("a")], durable).then(() => done++);
  const known = publisher.append([], durable).then(() => done++);
  await publisher.append([eventOf("b")], { ...durable, durability: "stored" });
  assert.equal(done, 0);
  flushing.resolve();
  await Promise.all([first, known]);
});

test("an append whose events cannot be made durable fails", async () => {
  const { publisher, connect } = publisherOn(new FakeStream([]), { flush: () => Promise.reject(new Error("EIO")) });
  connect();
  await assert.rejects(publisher.append([eventOf("a")], durable), {
    kind: ErrorKind.Unavailable,
    message: "the event stream is not durable: unavailable",
  });
});

test("what waits is bounded, in number and in bytes", async () => {
  const { publisher } = publisherOn(new FakeStream([]));
  const many = publisher.append(
    Array.from({ length: 16_384 }, (_, index) => eventOf(`e${index}`)),
    { ...durable, waitMsMax: 50 },
  );
  await assert.rejects(publisher.append([eventOf("more")], durable), {
    message: "16384 events wait to be published already: unavailable",
  });
  await assert.rejects(many, (error) => isFailure(error, ErrorKind.Unavailable));
});

test("an event that NATS cannot take is refused, the others go", async () => {
  const stream = new FakeStream([]);
  const { publisher, connect } = publisherOn(stream, {
    makeMessage: ({ messageId }) => ({
      subject: "s",
      headers: `Nats-Msg-Id: ${messageId}\r\n`,
      encoded: Buffer.from(messageId),
      body: Buffer.alloc(messageId === "large" ? 1_000_000 : 1),
    }),
  });
  connect();
  const large = publisher.append([eventOf("large")], durable);
  await Promise.all([
    assert.rejects(large, { kind: ErrorKind.ResourceExhausted }),
    publisher.append([eventOf("small")], durable),
  ]);
  assert.deepEqual(stream.stored, ["small"]);
});
