import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { type Clock, nsPerSecond, timestampOf } from "#base/times.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import type { Database, Statement } from "#sqlite/open.ts";

/** One event that waits to be published. */
export interface WaitingEvent {
  /** Where it stands in the order of events; never used twice. */
  readonly sequence: number;
  /** The encoded `containerd.types.Envelope`. */
  readonly envelope: Uint8Array;
}

/** What waits to be published. */
export interface OutboxState {
  readonly count: number;
  /** When the oldest one happened, in ns since the epoch; undefined when none waits. */
  readonly oldestNs: bigint | undefined;
}

/** Most events that wait before changes are refused. Decision: some 50 MiB of the database. */
export const waitingEventsMax = 100_000;

/** Events that happened, kept in the same transaction as what made them happen until the events process has them. */
export class Outbox {
  readonly #clock: Clock;
  readonly #waitingMax: number;
  readonly #insert: Statement<[Uint8Array]>;
  readonly #next: Statement<[number, number], WaitingEvent>;
  readonly #deleteUpTo: Statement<[number]>;
  readonly #id: string;
  /** Sequence of the newest event; too high for a while after a change was undone. */
  #last: number;
  /** Sequence up to which events were published. */
  #published: number;

  constructor(database: Database, clock: Clock, waitingMax = waitingEventsMax) {
    this.#clock = clock;
    this.#waitingMax = waitingMax;
    this.#insert = database.prepare("INSERT INTO outbox (envelope) VALUES (?)");
    this.#next = database.prepare("SELECT sequence, envelope FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?");
    this.#deleteUpTo = database.prepare("DELETE FROM outbox WHERE sequence <= ?");
    this.#id = database.prepare<[], string>("SELECT value FROM facts WHERE name = 'id'").pluck().get() ?? "";
    this.#last =
      database.prepare<[], number>("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").pluck().get() ?? 0;
    this.#published = (this.#next.get(0, 1)?.sequence ?? this.#last + 1) - 1;
  }

  /**
   * Adds an event, inside a change.
   *
   * @param namespace - The namespace that the event is about.
   * @param schema - Type of the payload. It travels under its bare name, without a host before it, as Go clients need it.
   */
  add<S extends DescMessage>(namespace: string, topic: string, schema: S, payload: MessageInitShape<S>): void {
    const envelope = create(EnvelopeSchema, {
      timestamp: timestampOf(this.#clock()),
      namespace,
      topic,
      event: { typeUrl: schema.typeName, value: toBinary(schema, create(schema, payload)) },
    });
    this.#last = Number(this.#insert.run(toBinary(EnvelopeSchema, envelope)).lastInsertRowid);
  }

  /** Whether no more events may wait. */
  get isFull(): boolean {
    return this.#last - this.#published >= this.#waitingMax;
  }

  /**
   * Refuses a change of a client while too many events wait. What the collector removes is not refused: it is no more than there is.
   *
   * @throws {@link FlotillaError} `unavailable`.
   */
  requireRoom(): void {
    if (this.isFull) {
      throw failure(
        ErrorKind.Unavailable,
        `${this.#waitingMax} events wait to be published, so nothing can be changed until the events process takes them`,
      );
    }
  }

  /** The oldest events that were not published yet, at most so many. */
  next(countMax: number): WaitingEvent[] {
    return this.#next.all(this.#published, countMax);
  }

  /** Says that events are published, before the change in which {@link forget} removes them. */
  markPublished(sequence: number): void {
    this.#published = sequence;
  }

  /** Forgets the events that are published, inside a change. Those that are not forgotten are published again after a restart. */
  forget(): void {
    this.#deleteUpTo.run(this.#published);
  }

  /** What waits now. */
  state(): OutboxState {
    const [oldest] = this.next(1);
    if (oldest === undefined) {
      return { count: 0, oldestNs: undefined };
    }
    const { timestamp } = fromBinary(EnvelopeSchema, oldest.envelope);
    return {
      count: this.#last - this.#published,
      oldestNs: timestamp === undefined ? undefined : timestamp.seconds * nsPerSecond + BigInt(timestamp.nanos),
    };
  }

  /** The name of an event that no other event of any database has. */
  messageId(sequence: number): string {
    return `metadata-${this.#id}-${sequence}`;
  }
}
