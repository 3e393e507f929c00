import { ErrorKind, failure } from "#base/errors.ts";
import { databaseFailure } from "./database-failure.ts";
import type { Database, Statement } from "./open.ts";

/** Most changes that share one commit; more wait for the next turn of the event loop, so that other calls come in between. */
const changesPerCommitMax = 64;
/** How long a change that is in no hurry waits for company. */
const lazyMsMax = 500;
/** Most changes that may wait. Callers beyond get `resource_exhausted`. */
const waitingChangesMax = 16_384;

interface WaitingChange {
  run(): void;
  /** Called when the change is durable, or when it was refused by itself. */
  settle(): void;
  fail(error: unknown): void;
}

/**
 * Runs changes of a database so that those that come in together share one commit, which is what a change costs.
 *
 * Every change stands for itself all the same: it sees those before it, one that throws is undone alone, and none is
 * answered before the commit is on disk.
 */
export class CommitQueue {
  readonly #database: Database;
  readonly #onCommit: () => void;
  readonly #waiting: WaitingChange[] = [];
  /** In the order in which they came; see {@link runLazily}. */
  #lazy: (() => void)[] = [];
  #lazyTimer: NodeJS.Timeout | undefined;
  #scheduled = false;
  readonly #begin: Statement<[]>;
  readonly #commit: Statement<[]>;
  readonly #rollback: Statement<[]>;
  readonly #savepoint: Statement<[]>;
  readonly #release: Statement<[]>;
  readonly #rollbackTo: Statement<[]>;

  /** @param onCommit - Called after each commit, before the changes in it are answered. */
  constructor(database: Database, onCommit: () => void = () => undefined) {
    this.#database = database;
    this.#onCommit = onCommit;
    this.#begin = database.prepare("BEGIN IMMEDIATE");
    this.#commit = database.prepare("COMMIT");
    this.#rollback = database.prepare("ROLLBACK");
    this.#savepoint = database.prepare("SAVEPOINT change");
    this.#release = database.prepare("RELEASE change");
    this.#rollbackTo = database.prepare("ROLLBACK TO change");
  }

  /**
   * Runs a change in a transaction soon and answers when it is durable.
   *
   * @param change - Synchronous. Whatever it throws undoes all it has done to the database and rejects the promise. It must
   *   leave everything outside the database alone, since the commit may still fail.
   * @throws What the change throws, and for faults of the database what {@link databaseFailure} makes of them.
   */
  run<T>(change: () => T): Promise<T> {
    if (this.#waiting.length >= waitingChangesMax) {
      return Promise.reject(failure(ErrorKind.ResourceExhausted, `${waitingChangesMax} changes are waiting`));
    }
    return new Promise<T>((resolve, reject) => {
      let outcome: (() => void) | undefined;
      this.#waiting.push({
        run: () => {
          const value = change();
          outcome = () => resolve(value);
        },
        settle: () => outcome?.(),
        fail: (error) => {
          outcome = undefined;
          reject(error);
        },
      });
      this.#schedule();
    });
  }

  /**
   * Runs a change together with the next one that does not wait, or in half a second, since a commit of its own would cost the others
   * their time. A crash before that loses it, and nobody is told when it is durable.
   *
   * @param change - As for {@link run}; its failure is nobody's, so it must be one that comes again.
   */
  runLazily(change: () => void): void {
    this.#lazy.push(change);
    this.#lazyTimer ??= setTimeout(() => this.#schedule(), lazyMsMax).unref();
  }

  #takeLazy(): WaitingChange[] {
    clearTimeout(this.#lazyTimer);
    this.#lazyTimer = undefined;
    const lazy = this.#lazy;
    this.#lazy = [];
    return lazy.map((run) => ({ run, settle: () => undefined, fail: () => undefined }));
  }

  #schedule(): void {
    if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => {
        this.#scheduled = false;
        this.#commitWaiting();
        if (this.#waiting.length > 0) {
          this.#schedule();
        }
      });
    }
  }

  #commitWaiting(): void {
    const batch = [...this.#waiting.splice(0, changesPerCommitMax), ...this.#takeLazy()];
    try {
      this.#begin.run();
      for (const change of batch) {
        this.#runAlone(change, batch.length);
      }
      this.#commit.run();
    } catch (error) {
      if (this.#database.inTransaction) {
        this.#rollback.run();
      }
      for (const change of batch) {
        change.fail(databaseFailure(error));
      }
      return;
    }
    this.#onCommit();
    for (const change of batch) {
      change.settle();
    }
  }

  /** Runs a change so that it can be undone without those before it. One that has the transaction for itself needs no savepoint. */
  #runAlone(change: WaitingChange, count: number): void {
    if (count === 1) {
      change.run();
      return;
    }
    this.#savepoint.run();
    try {
      change.run();
    } catch (error) {
      if (!this.#database.inTransaction) {
        // A full disk, among others, makes SQLite undo the whole transaction by itself.
        throw error;
      }
      this.#rollbackTo.run();
      change.fail(databaseFailure(error));
    }
    this.#release.run();
  }
}
