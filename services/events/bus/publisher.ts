import { ErrorKind, failure } from "#base/errors.ts";
import { Batch } from "./batch.ts";
import type { AppendOptions, NewEvent } from "./bus.ts";
import { type EventMessage, headerLine } from "./cloud-event.ts";
import { type Entry, EventQueue } from "./event-queue.ts";
import { Flushes } from "./flushes.ts";
import type { Link, Question, Ticket } from "./link.ts";
import { type Answer, readAnswer } from "./publish-answer.ts";

/** Events on the way at a time, once the stream is known to answer. */
const windowMax = 512;
const windowBytesMax = 4 * 1024 * 1024;
/** Events that are answered for by one answer. */
const chainMax = 128;
/** A stream that does not answer for so long makes the link count as broken. */
const silenceMsMax = 5_000;
const retryMsMin = 50;
const retryMsMax = 1_000;
/** How many bytes an entry counts besides its body: headers and bookkeeping. */
const overheadBytes = 1024;

/** An event that the stream has taken. */
export interface TakenEvent {
  readonly event: NewEvent;
  readonly sequence: number;
  /** The envelope of the event. */
  readonly encoded: Uint8Array;
  readonly sizeBytes: number;
}

export interface PublisherOptions {
  /** Whether nobody else publishes to the stream, so that each message may name the one that it has to follow. */
  readonly isAlone: boolean;
  makeMessage(event: NewEvent): EventMessage;
  /** Told of each event that the stream has taken, in the order of the sequences. */
  onTaken(taken: TakenEvent): void;
  /** Makes what the stream has taken survive a power cut. One call at a time. */
  flush(): Promise<void>;
}

/** Events that are sent behind each other and answered for by the answer to the last. One of them at least. */
type Chain = readonly Entry[];

/**
 * Hands events to the stream one after the other, many at a time on the way, and keeps their order when something fails.
 *
 * Order: the messages of one link arrive in order, so what a broken link loses is always the newest; all that was not acknowledged is
 * sent again, in order, over the next link, and the message ids let the stream leave out what it had taken. Over a new link, and
 * after a refusal, one message goes alone until the stream has answered; only then the window opens. If the stream refuses one
 * message of many, it has to refuse those behind it as well, so each names the one before it where nobody else can get between.
 *
 * There, a chain of messages needs one answer: the last is stored only right behind the one that it names, which is stored only
 * right behind the one that it names. When it is, all are, with the sequences before its own; when it is not, each is sent again by
 * itself.
 */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #queue = new EventQueue();
  /** On the way, oldest first. */
  readonly #sent = new Map<Ticket, Chain>();
  #sentCount = 0;
  #sentBytes = 0;
  /** Message id of what was sent last. */
  #newest: string | undefined;
  /** Refused for now; go first when all that is on the way has been answered. */
  #refused: Entry[] = [];
  #retryMs = retryMsMin;
  #retry: NodeJS.Timeout | undefined;
  #isPumpDue = false;
  #isOpen = false;
  #link: Link | undefined;
  #silence: NodeJS.Timeout | undefined;
  readonly #flushes: Flushes;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#flushes = new Flushes(() => options.flush());
  }

  /** Events that the stream has not answered for. */
  get waiting(): number {
    return this.#queue.waiting;
  }

  /**
   * @param events - Without those that are known to be stored; an append of none waits until what is stored is durable.
   * @see {@link EventBus.append}
   */
  append(events: readonly NewEvent[], { durability, waitMsMax }: Required<AppendOptions>): Promise<void> {
    const batch = new Batch(events.length, durability);
    try {
      this.#queue.add(events.map((event) => this.#entryOf(event, batch)));
    } catch (error) {
      return Promise.reject(error);
    }
    batch.watch(waitMsMax);
    if (events.length === 0) {
      this.#complete(batch);
    }
    this.#pumpSoon();
    return batch.done;
  }

  #entryOf(event: NewEvent, batch: Batch): Entry {
    const message = this.#options.makeMessage(event);
    const sizeBytes = message.body.byteLength + message.headers.length + overheadBytes;
    return { event, message, batch, sizeBytes, isRepeated: false };
  }

  /** Goes on over a new link. */
  attach(link: Link): void {
    this.detach();
    this.#link = link;
    this.#pump();
  }

  /** Stops sending. What is on the way counts as not sent. */
  detach(): void {
    for (const ticket of this.#sent.keys()) {
      this.#link?.forget(ticket);
    }
    this.#link = undefined;
    this.#queue.putBack([...this.#refused, ...[...this.#sent.values()].flat()]);
    this.#refused = [];
    this.#sent.clear();
    this.#sentCount = 0;
    this.#sentBytes = 0;
    this.#isOpen = false;
    this.#retryMs = retryMsMin;
    clearTimeout(this.#retry);
    this.#retry = undefined;
    clearTimeout(this.#silence);
    this.#silence = undefined;
  }

  /**
   * Sends when all that has come in by now has been read, so that events that come together go out together: a write costs more than an
   * event does, here and at the server.
   */
  #pumpSoon(): void {
    if (this.#isPumpDue) {
      return;
    }
    this.#isPumpDue = true;
    setImmediate(() => {
      this.#isPumpDue = false;
      this.#pump();
    });
  }

  #pump(): void {
    const link = this.#link;
    if (link === undefined || this.#refused.length > 0 || this.#retry !== undefined) {
      return;
    }
    let taken = 0;
    let chain: Entry[] = [];
    while (this.#sentCount < (this.#isOpen ? windowMax : 1) && this.#sentBytes < windowBytesMax) {
      const entry = this.#queue.at(taken);
      if (entry === undefined) {
        break;
      }
      taken++;
      if (!this.#isWanted(link, entry)) {
        continue;
      }
      this.#sentCount++;
      this.#sentBytes += entry.sizeBytes;
      chain.push(entry);
      this.#isOpen &&= !entry.isRepeated;
      if (!this.#options.isAlone || chain.length === chainMax) {
        this.#send(link, chain);
        chain = [];
      }
    }
    this.#queue.shift(taken);
    this.#send(link, chain);
  }

  /** Whether an event is to be sent. One that is not is dropped. */
  #isWanted(link: Link, entry: Entry): boolean {
    const fits = entry.sizeBytes <= link.messageBytesMax;
    if (fits && !entry.batch.hasFailed) {
      return true;
    }
    this.#queue.release(entry);
    if (!fits) {
      const reason = `event of ${entry.sizeBytes} bytes is more than NATS takes (${link.messageBytesMax})`;
      entry.batch.fail(failure(ErrorKind.ResourceExhausted, reason));
    }
    return false;
  }

  #send(link: Link, chain: Chain): void {
    const last = chain.length - 1;
    let previous = this.#options.isAlone && this.#sent.size > 0 ? this.#newest : undefined;
    for (const [index, { message, event }] of chain.entries()) {
      const following = behind(message, previous);
      previous = event.messageId;
      if (index < last) {
        link.tell(following);
        continue;
      }
      const ticket = link.ask(following, (reply) => this.#accept(ticket, chain, readAnswer(reply)));
      this.#newest = previous;
      this.#sent.set(ticket, chain);
      this.#silence ??= this.#watch(link);
    }
  }

  #watch(link: Link): NodeJS.Timeout {
    return setTimeout(() => void link.close(), silenceMsMax);
  }

  #accept(ticket: Ticket, chain: Chain, answer: Answer): void {
    this.#sent.delete(ticket);
    for (const { sizeBytes } of chain) {
      this.#sentCount--;
      this.#sentBytes -= sizeBytes;
    }
    if (this.#sent.size === 0) {
      clearTimeout(this.#silence);
      this.#silence = undefined;
    } else {
      this.#silence?.refresh();
    }
    const isAlone = chain.length === 1;
    if (answer.kind === "taken" && (isAlone || !answer.isDuplicate)) {
      this.#isOpen = this.#refused.length === 0;
      this.#retryMs = retryMsMin;
      let sequence = answer.sequence - chain.length;
      for (const entry of chain) {
        this.#take(entry, ++sequence);
      }
    } else if (answer.kind === "refused" && isAlone) {
      for (const entry of chain) {
        this.#queue.release(entry);
        entry.batch.fail(answer.error);
      }
    } else {
      this.#refused.push(...chain);
      this.#isOpen = false;
    }
    if (this.#refused.length > 0 && this.#sent.size === 0) {
      this.#retryLater();
    }
    this.#pumpSoon();
  }

  #take(entry: Entry, sequence: number): void {
    const { event, message, batch, sizeBytes } = entry;
    this.#queue.release(entry);
    this.#options.onTaken({ event, sequence, encoded: message.encoded, sizeBytes });
    batch.missing--;
    if (batch.missing === 0) {
      this.#complete(batch);
    }
  }

  #retryLater(): void {
    this.#queue.putBack(this.#refused);
    this.#refused = [];
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#pump();
    }, this.#retryMs);
    this.#retryMs = Math.min(retryMsMax, 2 * this.#retryMs);
  }

  /** Ends an append whose events the stream has taken. */
  #complete(batch: Batch): void {
    if (batch.durability === "stored") {
      batch.succeed();
    } else {
      this.#flushes.add(batch);
    }
  }
}

const previousHeader = "Nats-Expected-Last-Msg-Id";

/**
 * Has the stream refuse a message unless another is its newest.
 *
 * @source NATS docs, "Headers for Stream publishing"; nats-server v2.9.10 server/stream.go `processJetStreamMsg`
 */
function behind({ subject, headers, body }: Question, previous: string | undefined): Question {
  return previous === undefined
    ? { subject, headers, body }
    : { subject, headers: headers + headerLine(previousHeader, previous), body };
}
