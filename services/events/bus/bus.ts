import { fromBinary } from "@bufbuild/protobuf";
import { type Envelope, EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";

/**
 * The bus takes events in, keeps them for a while in one order, and gives them out.
 *
 * Words: an event is *stored* when it survives `kill -9` of every process, and *durable* when it survives a power cut as well. It
 * has a *sequence* from being stored on, greater than that of every event stored before. It is *kept* until the bounds on
 * age and size have driven it out, oldest first.
 *
 * What every implementation does, and `test/conformance/event-bus.suite.ts` checks:
 * - Events of one {@link EventBus.append} are stored in their order, and those of two that follow each other as well.
 * - An event with the message id of one that is stored changes nothing and counts as stored.
 * - Subscribers see each event once, after it is stored, in the order of the sequences, as it was appended.
 * - A subscriber that reads slowly loses nothing and costs no memory: what it has not read stays in the store. Only if the store has
 *   driven out what it still needs, its subscription fails with `data_loss`.
 * - While the store is away, appending waits, bounded, and fails with `unavailable`; subscriptions wait.
 */
export interface EventBus {
  /**
   * Stores events in order.
   *
   * When it resolves, they are durable, or only stored if that was asked for. A store on another machine answers for its disks itself.
   *
   * When it rejects, some of the events may be stored or become so. Appending the same again, with the same message ids,
   * is harmless.
   *
   * @throws {@link FlotillaError}
   *   - `unavailable`: the store is away, or too many events wait already. Nothing is wrong with the events.
   *   - `resource_exhausted`: an event is larger than 4 MiB. Appending it again is useless.
   */
  append(events: readonly NewEvent[], options?: AppendOptions): Promise<void>;
  /**
   * Subscribes. When the promise resolves, every event that is appended from now on will be seen.
   *
   * @param signal - Ends the subscription; the events then end without an error.
   * @throws {@link FlotillaError} `unavailable` when the store has not been there yet, goes on being away while a start in
   *   the past is looked for, or is not the one of a position.
   * @returns Events, several at a time when several are there, to be read by one reader. Reading throws `data_loss` as said above, and `unavailable` when the store has been
   *   replaced by another.
   */
  subscribe(start: Start, signal: AbortSignal): Promise<Subscription>;
}

/** The events that a subscriber gets. */
export interface Subscription extends AsyncIterable<readonly StoredEvent[]> {
  /** Where it began. The place of a later event is this with the event's sequence. */
  readonly start: Position;
}

/** A place among the events of a store, which the next process knows as well. */
export interface Position {
  /** Tells the store from all others. Visible ASCII without `/` and `;`. */
  readonly store: string;
  readonly sequence: number;
}

/** How to append. */
export interface AppendOptions {
  /** What to wait for; durable unless given. */
  readonly durability?: Durability;
  /** How long to wait for the store; as long as calls are held unless given. */
  readonly waitMsMax?: number;
}

/** What an append waits for. */
export type Durability = "stored" | "durable";

/** An event to be stored. */
export interface NewEvent {
  /** Unique for ever among all events of all machines that share a store. */
  readonly messageId: string;
  readonly envelope: Envelope;
  /** The encoded envelope, if it is at hand. Nobody changes it. */
  readonly encoded?: Uint8Array;
}

/** An event that has been stored. It is kept as it travels, and decoded for those only who look inside. */
export class StoredEvent {
  readonly sequence: number;
  /** The encoded envelope. */
  readonly encoded: Uint8Array;
  readonly namespace: string;
  readonly topic: string;
  #envelope: Envelope | undefined;

  /** @param head - What is in the envelope. */
  constructor(sequence: number, encoded: Uint8Array, { namespace, topic }: Pick<Envelope, "namespace" | "topic">) {
    this.sequence = sequence;
    this.encoded = encoded;
    this.namespace = namespace;
    this.topic = topic;
  }

  get envelope(): Envelope {
    this.#envelope ??= fromBinary(EnvelopeSchema, this.encoded);
    return this.#envelope;
  }

  /** The payload of the envelope. */
  get event(): Envelope["event"] {
    return this.envelope.event;
  }
}

/** Where a subscription starts. */
export type Start =
  /** With the next event. */
  | { readonly kind: "now" }
  /** With the event of this sequence, or the first kept one after it. */
  | { readonly kind: "sequence"; readonly sequence: number }
  /** With the event of this place, without missing any. */
  | { readonly kind: "position"; readonly position: Position }
  /** With the first kept event that was stored at this time or later; nanoseconds since the epoch. */
  | { readonly kind: "time"; readonly timeNs: bigint };

/** Largest event, as an encoded envelope. Decision: what fits into one ttrpc frame, so that no shim meets it. */
export const eventBytesMax = 4 * 1024 * 1024;
