import type { Clock } from "#base/times.ts";
import type { Database } from "#sqlite/open.ts";
import { openReader } from "#sqlite/open.ts";
import { CommitQueue } from "#sqlite/transaction.ts";
import { GraphStore } from "./graph.ts";
import { KeptCalls } from "./kept-calls.ts";
import { Outbox } from "./outbox.ts";

/** What a change tells besides its outcome. */
export interface Change {
  /** Says that something was removed, so that a collection may find more to remove. */
  noteDeletion(): void;
}

/** The open database and what every store needs of it. */
export class Records {
  readonly database: Database;
  readonly clock: Clock;
  readonly graph: GraphStore;
  readonly outbox: Outbox;
  readonly calls: KeptCalls;
  readonly #commits: CommitQueue;
  readonly #onMutation: ((deletions: number) => void)[] = [];
  readonly #onCommit: (() => void)[] = [];

  /** @param waitingEventsMax - Most events that wait; see `Outbox`. */
  constructor(database: Database, clock: Clock, waitingEventsMax?: number) {
    this.database = database;
    this.clock = clock;
    this.graph = new GraphStore(database);
    this.outbox = new Outbox(database, clock, waitingEventsMax);
    this.calls = new KeptCalls(database, clock);
    this.#commits = new CommitQueue(database, () => {
      for (const listener of this.#onCommit) {
        listener();
      }
    });
  }

  /**
   * Makes a change that a client asked for and answers when it is durable. When the call is made again, since this process died, the outcome is
   * that of the first time.
   *
   * @param change - Synchronous; throwing undoes it. See `CommitQueue.run`.
   * @throws {@link FlotillaError} `unavailable` while too many events wait to be published.
   */
  async write<T>(change: (change: Change) => T): Promise<T> {
    let deletions = 0;
    const once = this.calls.once(() => {
      this.outbox.requireRoom();
      deletions = 0;
      return change({
        noteDeletion: () => {
          deletions += 1;
        },
      });
    });
    const outcome = await this.#commits.run(once);
    for (const listener of this.#onMutation) {
      listener(deletions);
    }
    return outcome;
  }

  /** Makes a change of our own housekeeping, which is no reason to collect. */
  maintain<T>(change: () => T): Promise<T> {
    return this.#commits.run(change);
  }

  /** The same for what a peer asked for, with the outcome of the first time when the call is made again. */
  maintainOnce<T>(change: () => T): Promise<T> {
    return this.#commits.run(this.calls.once(change));
  }

  /** As {@link maintain} for what may wait half a second and may be lost; see `CommitQueue.runLazily`. */
  maintainLazily(change: () => void): void {
    this.#commits.runLazily(change);
  }

  /** Has a listener called after every change of a client, with the number of things that it removed. */
  onMutation(listener: (deletions: number) => void): void {
    this.#onMutation.push(listener);
  }

  /** Has a listener called after every commit. */
  onCommit(listener: () => void): void {
    this.#onCommit.push(listener);
  }

  /**
   * Has a listener called after a commit for which that was wanted, before anybody is told of it.
   *
   * @returns What is to be called amid such a change. When the change is undone, the listener is called with the next one.
   */
  afterNoted(listener: () => void): () => void {
    let isNoted = false;
    this.onCommit(() => {
      if (isNoted) {
        isNoted = false;
        listener();
      }
    });
    return () => {
      isNoted = true;
    };
  }

  /** Opens a connection that keeps seeing one state while changes go on. The caller closes it. */
  openSnapshot(): Database {
    const reader = openReader(this.database.name);
    reader.exec("BEGIN");
    reader.prepare("SELECT count(*) FROM facts").get();
    return reader;
  }
}
