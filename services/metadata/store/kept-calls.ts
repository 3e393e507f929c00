import { AsyncLocalStorage } from "node:async_hooks";
import { deserialize, serialize } from "node:v8";
import { ErrorKind, failure } from "#base/errors.ts";
import { type Clock, nsPerMs } from "#base/times.ts";
import type { Database, Statement } from "#sqlite/open.ts";
import type { CallId } from "#wire/call-id.ts";

/** How long what a call has changed is remembered. Who makes a call again does it within a few times the 10 s for which calls are held. */
export const keptMsMax = 60_000;
/** How many calls are remembered. Decision: many more than there are between the death of this process and the next try, at 10,000 a second. */
export const keptCallsMax = 4_096;
/** What is forgotten at a time: twice what is kept meanwhile, so that a flood is made up for. */
const forgottenEvery = 8;
const forgottenMax = 2 * forgottenEvery;

/** A call that is being answered. */
interface AnsweredCall {
  readonly id: CallId;
  /** Changes that it has asked for so far. */
  changes: number;
}

interface KeptRow {
  readonly outcome: Uint8Array;
}

/**
 * What came of the changes that calls have made, kept in the transaction of the change, for calls that are made again because this process
 * died before they had their answer: they get the outcome that the first try had, and change nothing.
 *
 * Changes that failed are not kept: they have changed nothing, and are tried again.
 */
export class KeptCalls {
  readonly #clock: Clock;
  readonly #answered = new AsyncLocalStorage<AnsweredCall>();
  readonly #insert: Statement<[number, string, number, Uint8Array]>;
  readonly #find: Statement<[string], KeptRow>;
  readonly #oldestKept: Statement<[], { readonly keptMs: number; readonly count: number }>;
  readonly #forget: Statement<[number, number, number]>;
  /** The newest row; too high for a while after a change was undone. */
  #last: number;
  /** No row is older than this. */
  #oldest: number;

  constructor(database: Database, clock: Clock) {
    this.#clock = clock;
    this.#insert = database.prepare("INSERT INTO kept_calls (number, call, kept_ms, outcome) VALUES (?, ?, ?, ?)");
    this.#find = database.prepare("SELECT outcome FROM kept_calls WHERE call = ?");
    this.#oldestKept = database.prepare("SELECT min(kept_ms) AS keptMs, count(*) AS count FROM kept_calls");
    this.#forget = database.prepare("DELETE FROM kept_calls WHERE number < ? AND (number < ? OR kept_ms < ?)");
    const numbers = database
      .prepare<[], { readonly first: number | null; readonly last: number | null }>(
        "SELECT min(number) AS first, max(number) AS last FROM kept_calls",
      )
      .get();
    this.#last = numbers?.last ?? 0;
    this.#oldest = numbers?.first ?? 1;
  }

  /** Runs what answers a call, whose changes are kept then. */
  answer<T>(id: CallId, work: () => T): T {
    return this.#answered.run({ id, changes: 0 }, work);
  }

  /**
   * Makes of a change one that is carried out once for the call that is being answered, however often that is made. Outside of calls it is the
   * change itself.
   *
   * @param change - Runs in a transaction. Its outcome is data and messages, or an error that it returns, which is not kept.
   */
  once<T>(change: () => T): () => T {
    const call = this.#answered.getStore();
    if (call === undefined) {
      return change;
    }
    const key = call.changes === 0 ? call.id.id : `${call.id.id}+${call.changes}`;
    call.changes += 1;
    const { repeatedAfterMs } = call.id;
    return () => {
      const kept = repeatedAfterMs === undefined ? undefined : this.#recall(key, repeatedAfterMs);
      if (kept !== undefined) {
        return deserialize(kept.outcome) as T;
      }
      const outcome = change();
      if (!(outcome instanceof Error)) {
        this.#keep(key, outcome);
      }
      return outcome;
    };
  }

  #recall(key: string, ageMs: number): KeptRow | undefined {
    const kept = this.#find.get(key);
    const oldest = kept === undefined ? this.#oldestKept.get() : undefined;
    const isCrowded = oldest !== undefined && oldest.count >= keptCallsMax - forgottenMax;
    if (kept === undefined && (ageMs > keptMsMax || (isCrowded && this.#nowMs() - ageMs < oldest.keptMs))) {
      throw failure(
        ErrorKind.Unavailable,
        "nobody knows any more whether the call was carried out before its process died",
      );
    }
    return kept;
  }

  #keep(key: string, outcome: unknown): void {
    const nowMs = this.#nowMs();
    this.#last += 1;
    this.#insert.run(this.#last, key, nowMs, serialize(outcome));
    if (this.#last % forgottenEvery === 0) {
      this.#oldest += this.#forget.run(
        this.#oldest + forgottenMax,
        this.#last - keptCallsMax,
        nowMs - keptMsMax,
      ).changes;
    }
  }

  #nowMs(): number {
    return Number(this.#clock() / nsPerMs);
  }
}
