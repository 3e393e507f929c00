import { ErrorKind, failure } from "#base/errors.ts";
import type { StoredEvent } from "./bus.ts";
import { messageIdOf, readMessage, sequenceOf, storedAtNs } from "./cloud-event.ts";
import type { Link, Question, Reply } from "./link.ts";
import { readStreamState, request, requestAll } from "./stream.ts";

/** Messages that are asked for at a time. */
const windowMax = 128;
/** About how many bytes of messages are held at a time. */
const windowBytesMax = 1024 * 1024;
const notFound = 404;

/** A part of what the stream holds. */
export interface Page {
  /** Events of this daemon, oldest first. */
  readonly events: readonly StoredEvent[];
  /** Sequence up to which the page has looked. */
  readonly upTo: number;
  /** Sequence of the oldest message that is kept. */
  readonly firstKept: number;
}

/**
 * Reads what the stream holds, without a consumer: each message is asked for by its sequence, so nothing is left behind on the server
 * when a reader goes away, and nothing arrives that was not asked for.
 *
 * @source NATS ADR-31 "JetStream Direct Get"
 */
export class StoredEvents {
  readonly #stream: string;
  readonly #source: string;

  constructor(stream: string, source: string) {
    this.#stream = stream;
    this.#source = source;
  }

  /**
   * Opens a reader that holds about 1 MiB at a time.
   *
   * @param link - Asked before each page, and waited for, since the reader outlives a connection.
   */
  reader(link: () => Promise<Link>): (after: number) => Promise<Page> {
    let window = 8;
    return async (after) => {
      const open = await link();
      const { firstSequence, lastSequence } = await readStreamState(open, this.#stream);
      const from = Math.max(after + 1, firstSequence);
      const to = Math.min(lastSequence, from + window - 1);
      const replies = await this.#ask(open, from, to);
      const events = replies.flatMap((reply) => readMessage(reply, this.#source) ?? []);
      const bytes = replies.reduce((sum, reply) => sum + 2 * reply.body.byteLength + 512, 0);
      const fitting = replies.length === 0 ? window : Math.floor(windowBytesMax / (bytes / replies.length));
      window = Math.max(1, Math.min(windowMax, 2 * window, fitting));
      return { events, upTo: Math.max(after, to), firstKept: firstSequence };
    };
  }

  /** Message ids of the newest messages of this daemon. */
  async newestIds(link: Link, last: number, countMax: number): Promise<string[]> {
    const ids: string[] = [];
    for (let from = Math.max(1, last - countMax + 1); from <= last; from += windowMax) {
      const replies = await this.#ask(link, from, Math.min(last, from + windowMax - 1));
      ids.push(...replies.map(messageIdOf).filter((id) => id !== ""));
    }
    return ids;
  }

  /** The greatest sequence that was stored before a time; 0 for none. */
  async lastBefore(link: Link, timeNs: bigint): Promise<number> {
    const { firstSequence, lastSequence } = await readStreamState(link, this.#stream);
    let low = firstSequence;
    let high = lastSequence + 1;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      const reply = await request(link, this.#question({ seq: middle, next_by_subj: ">" }));
      if (reply.status === notFound || storedAtNs(reply) >= timeNs) {
        high = middle;
      } else {
        low = sequenceOf(reply) + 1;
      }
    }
    return low - 1;
  }

  /** Asks for each message of a range. Those that are no longer there are left out. */
  async #ask(link: Link, from: number, to: number): Promise<Reply[]> {
    const sequences = Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index);
    const replies = await requestAll(
      link,
      sequences.map((seq) => this.#question({ seq })),
    );
    const refused = replies.find(({ status }) => status !== 0 && status !== notFound);
    if (refused !== undefined) {
      throw failure(ErrorKind.Unavailable, `the event stream cannot be read (${refused.status})`);
    }
    return replies.filter(({ status }) => status === 0);
  }

  #question(body: { readonly seq: number; readonly next_by_subj?: string }): Question {
    return {
      subject: `$JS.API.DIRECT.GET.${this.#stream}`,
      headers: "",
      body: Buffer.from(JSON.stringify(body)),
    };
  }
}
