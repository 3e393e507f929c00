import type { Database, Statement } from "#sqlite/open.ts";

/** Numbers that grow and are never given out twice. */
export class SequenceStore {
  readonly #next: Statement<[string], bigint>;

  constructor(database: Database) {
    this.#next = database
      .prepare<[string], bigint>(
        `INSERT INTO sequences (name, last) VALUES (?, 1)
         ON CONFLICT (name) DO UPDATE SET last = last + 1 RETURNING last`,
      )
      .pluck()
      .safeIntegers();
  }

  /** The next number of a sequence, from 1, inside a change. */
  next(sequence: string): bigint {
    return this.#next.get(sequence) ?? 1n;
  }
}
