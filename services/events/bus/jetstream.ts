import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { type AppendOptions, type EventBus, type NewEvent, type Start, StoredEvent, type Subscription } from "./bus.ts";
import { MessageMaker, type Publisher as Origin } from "./cloud-event.ts";
import { followEvents, untilAborted } from "./follow-events.ts";
import type { Dial, Link } from "./link.ts";
import { MessageIds } from "./message-ids.ts";
import { Publisher, type TakenEvent } from "./publisher.ts";
import { RecentEvents } from "./recent-events.ts";
import { StoredEvents } from "./stored-events.ts";
import { prepareStream, type StreamSettings, type StreamState } from "./stream.ts";

export interface JetStreamOptions {
  readonly dial: Dial;
  readonly stream: StreamSettings;
  /** Who we are among all who publish to the same server. */
  readonly origin: Omit<Origin, "stream">;
  /** How long an append or the start of a subscription waits while the server is away. */
  readonly waitMsMax: number;
  /** Whether no other machine publishes to the same stream. */
  readonly isAlone: boolean;
  /** Makes what the server has acknowledged survive a power cut; undefined to leave that to the server. */
  readonly flush: (() => Promise<void>) | undefined;
  onConnected(): void;
  /** Told why there is no connection, each time that this changes. */
  onDisconnected(reason: Error): void;
}

const redialMsMin = 25;
const redialMsMax = 1_000;
/** How many of the newest message ids are read from the stream when the process has just started. */
const knownIdsMax = 512;

/** What a bus tells of itself. */
export interface BusState {
  /** Events that the stream has taken. */
  readonly taken: number;
  /** Events that the stream has not answered for. */
  readonly waiting: number;
  readonly subscribers: number;
  /** How many events the slowest subscriber is behind. */
  readonly lagMax: number;
  readonly isConnected: boolean;
}

/**
 * The event bus on a stream of NATS JetStream.
 *
 * Events that this process has stored reach subscribers from memory. The stream itself is read only for those that start in the past
 * or read slowly. Events that others have published to the same stream are left alone.
 */
export class JetStreamBus implements EventBus, AsyncDisposable {
  readonly #options: JetStreamOptions;
  readonly #stopped = new AbortController();
  readonly #publisher: Publisher;
  readonly #stored: StoredEvents;
  readonly #ids = new MessageIds();
  /** Where each subscriber stands. */
  readonly #cursors = new Set<{ sequence: number }>();
  #taken = 0;
  readonly #running: Promise<void>;
  #link: PromiseWithResolvers<Link> = Promise.withResolvers();
  #recent: PromiseWithResolvers<RecentEvents> = Promise.withResolvers();
  #live: RecentEvents | undefined;
  #created = "";
  /** Why there is no connection. */
  #obstacle: Error | undefined;
  #idsRead: Promise<void> | undefined;
  #areIdsRead = false;

  /** Connects at once and goes on trying until {@link [Symbol.asyncDispose]}. */
  constructor(options: JetStreamOptions) {
    this.#options = options;
    this.#stored = new StoredEvents(options.stream.name, options.origin.source);
    const messages = new MessageMaker({ ...options.origin, stream: options.stream.name });
    this.#publisher = new Publisher({
      isAlone: options.isAlone,
      makeMessage: (event) => messages.make(event),
      onTaken: (taken) => this.#feed(taken),
      flush: async () => options.flush?.(),
    });
    this.#running = this.#run();
  }

  /**
   * Resolves when the stream exists.
   *
   * @throws {@link FlotillaError} `unavailable` when it does not in time, with what keeps us from it.
   */
  async ready(waitMsMax: number): Promise<void> {
    await this.#within(this.#recent.promise, waitMsMax);
  }

  append(events: readonly NewEvent[], options: AppendOptions = {}): Promise<void> {
    const { durability = "durable", waitMsMax = this.#options.waitMsMax } = options;
    return this.#areIdsRead
      ? this.#appendUnknown(events, { durability, waitMsMax })
      : this.#appendFirst(events, { durability, waitMsMax });
  }

  async subscribe(start: Start, signal: AbortSignal): Promise<Subscription> {
    const recent = await this.#within(this.#recent.promise);
    switch (start.kind) {
      case "now":
        return this.#follow(recent, { after: recent.last, mayMiss: false }, signal);
      case "sequence":
        return this.#follow(recent, { after: Math.min(start.sequence - 1, recent.last), mayMiss: true }, signal);
      case "position": {
        const { store, sequence } = start.position;
        if (store !== this.#created || sequence > recent.last + 1) {
          throw failure(ErrorKind.Unavailable, "the event stream has been replaced by another");
        }
        return this.#follow(recent, { after: sequence - 1, mayMiss: false }, signal);
      }
      default: {
        const before = await this.#read((link) => this.#stored.lastBefore(link, start.timeNs));
        return this.#follow(recent, { after: Math.min(before, recent.last), mayMiss: true }, signal);
      }
    }
  }

  /** What the bus carries, and how far its subscribers are behind. */
  state(): BusState {
    const last = this.#live?.last ?? 0;
    let lagMax = 0;
    for (const { sequence } of this.#cursors) {
      lagMax = Math.max(lagMax, last - sequence);
    }
    return {
      taken: this.#taken,
      waiting: this.#publisher.waiting,
      subscribers: this.#cursors.size,
      lagMax,
      isConnected: this.#obstacle === undefined && this.#live !== undefined,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  #follow(
    recent: RecentEvents,
    { after, mayMiss }: { readonly after: number; readonly mayMiss: boolean },
    signal: AbortSignal,
  ): Subscription {
    const readPage = this.#stored.reader(() => this.#link.promise);
    const sources = { recent, readPage, cursors: this.#cursors, retryMs: redialMsMax };
    return {
      start: { store: this.#created, sequence: after + 1 },
      [Symbol.asyncIterator]: () => followEvents(sources, { after, mayMiss, signal }),
    };
  }

  /** Learns which events are known before it appends. */
  async #appendFirst(events: readonly NewEvent[], { durability, waitMsMax }: Required<AppendOptions>): Promise<void> {
    const startedMs = performance.now();
    await this.#within(this.#readIds(), waitMsMax);
    const leftMs = Math.max(0, waitMsMax - (performance.now() - startedMs));
    await this.#appendUnknown(events, { durability, waitMsMax: leftMs });
  }

  #appendUnknown(events: readonly NewEvent[], options: Required<AppendOptions>): Promise<void> {
    const unknown = events.filter(({ messageId }) => !this.#ids.has(messageId));
    return this.#publisher.append(unknown, options);
  }

  #feed({ event, sequence, encoded, sizeBytes }: TakenEvent): void {
    this.#taken += 1;
    this.#ids.add(event.messageId);
    this.#live?.add(new StoredEvent(sequence, encoded, event.envelope), sizeBytes);
    if (this.#cursors.size === 0) {
      this.#live?.release(sequence);
    }
  }

  /** Learns, once, which events were stored last before this process started. */
  async #readIds(): Promise<void> {
    this.#idsRead ??= this.#readIdsNow();
    try {
      await this.#idsRead;
    } catch (error) {
      this.#idsRead = undefined;
      throw error;
    }
  }

  async #readIdsNow(): Promise<void> {
    const { last } = await this.#within(this.#recent.promise);
    for (const id of await this.#read((link) => this.#stored.newestIds(link, last, knownIdsMax))) {
      this.#ids.add(id);
    }
    this.#areIdsRead = true;
  }

  /** Reads something of the stream, over the next link when the server goes away meanwhile. */
  async #read<T>(from: (link: Link) => Promise<T>): Promise<T> {
    for (const deadline = performance.now() + this.#options.waitMsMax; ; await delay(redialMsMin)) {
      const link = await this.#within(this.#link.promise);
      try {
        return await from(link);
      } catch (error) {
        if (!isFailure(error, ErrorKind.Unavailable) || performance.now() >= deadline) {
          throw error;
        }
      }
    }
  }

  async #run(): Promise<void> {
    let redialMs = redialMsMin;
    while (!this.#stopped.signal.aborted) {
      const reason = await this.#connectOnce(() => {
        redialMs = redialMsMin;
        this.#obstacle = undefined;
      });
      if (reason.message !== this.#obstacle?.message && !this.#stopped.signal.aborted) {
        this.#options.onDisconnected(reason);
      }
      this.#obstacle = reason;
      await delay(redialMs, undefined, { signal: this.#stopped.signal }).catch(() => undefined);
      redialMs = Math.min(redialMsMax, 2 * redialMs);
    }
  }

  /** Connects and stays connected as long as it lasts. Returns why it ended. */
  async #connectOnce(onConnected: () => void): Promise<Error> {
    let link: Link | undefined;
    let isUp = false;
    try {
      link = await this.#options.dial();
      this.#adopt(await prepareStream(link, this.#options.stream));
      this.#publisher.attach(link);
      this.#link.resolve(link);
      isUp = true;
      onConnected();
      this.#options.onConnected();
      return (
        (await untilAborted(link.closed, this.#stopped.signal)) ??
        failure(ErrorKind.Unavailable, "the connection to NATS was closed")
      );
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#publisher.detach();
      // Who waits for a link goes on waiting for the same promise as long as tries fail.
      if (isUp) {
        this.#link = Promise.withResolvers();
      }
      await link?.close();
    }
  }

  /** Takes over the stream that was found, which may be another than before. */
  #adopt({ created, lastSequence }: StreamState): void {
    const live = this.#live;
    if (live !== undefined && created === this.#created && lastSequence >= live.last) {
      return;
    }
    this.#created = created;
    this.#live = new RecentEvents(lastSequence);
    if (live !== undefined) {
      live.end(new Error("the event stream has been replaced by another"));
      this.#recent = Promise.withResolvers();
    }
    this.#recent.resolve(this.#live);
  }

  async #within<T>(promise: Promise<T>, waitMsMax = this.#options.waitMsMax): Promise<T> {
    const timer = new AbortController();
    const late = delay(waitMsMax, undefined, { signal: timer.signal });
    try {
      const outcome = await Promise.race([promise.then((value) => ({ value })), late]);
      if (outcome === undefined) {
        const reason = this.#obstacle === undefined ? "" : `: ${this.#obstacle.message}`;
        throw failure(ErrorKind.Unavailable, `the event stream is not there${reason}`, { cause: this.#obstacle });
      }
      return outcome.value;
    } finally {
      timer.abort();
      late.catch(() => undefined);
    }
  }
}
