import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Clock, timestampOf } from "#base/times.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import type { Database, Statement } from "#sqlite/open.ts";

/** One event that waits to be published. */
export interface WaitingEvent {
  /** Where it stands in the order of events; never used twice. */
  readonly sequence: number;
  /** The encoded `containerd.types.Envelope`. */
  readonly envelope: Uint8Array;
}

/** Events that happened, kept in the same transaction as what made them happen until the events process has them. */
export class Outbox {
  readonly #clock: Clock;
  readonly #insert: Statement<[Uint8Array]>;
  readonly #first: Statement<[number], WaitingEvent>;
  readonly #deleteUpTo: Statement<[number]>;
  readonly #id: string;

  constructor(database: Database, clock: Clock) {
    this.#clock = clock;
    this.#insert = database.prepare("INSERT INTO outbox (envelope) VALUES (?)");
    this.#first = database.prepare("SELECT sequence, envelope FROM outbox ORDER BY sequence LIMIT ?");
    this.#deleteUpTo = database.prepare("DELETE FROM outbox WHERE sequence <= ?");
    this.#id = database.prepare<[], string>("SELECT value FROM facts WHERE name = 'id'").pluck().get() ?? "";
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
    this.#insert.run(toBinary(EnvelopeSchema, envelope));
  }

  /** The oldest events, at most so many. */
  first(countMax: number): WaitingEvent[] {
    return this.#first.all(countMax);
  }

  /** Forgets events that are published, inside a change. */
  removeUpTo(sequence: number): void {
    this.#deleteUpTo.run(sequence);
  }

  /** The name of an event that no other event of any database has. */
  messageId(sequence: number): string {
    return `metadata-${this.#id}-${sequence}`;
  }
}
