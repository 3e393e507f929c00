import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { systemErrorCode } from "#base/errors.ts";
import { randomBytesAtStart } from "#base/random.ts";
import { stateDirectoryOf } from "./process-name.ts";

/**
 * What numbers there are: of records of blobs, which content goes by, of containers, which tasks does, and of snapshots, which snapshots does.
 * Whether a snapshot's labels change or it is committed counts as well, since where it lies is told with both.
 */
export type RemovedKind = "blob" | "container" | "snapshot";

/**
 * A number in a file by which the metadata process tells other processes that records of a kind have gone, at no more cost to them than two
 * system calls.
 *
 * The writer changes it after the removal is committed and before anybody is told of the removal. So a fact that was learnt after a
 * look at the number still holds if a later look finds the same number.
 */
function markPath(state: string, kind: RemovedKind): string {
  return `${stateDirectoryOf(state, "metadata")}/${kind}-removals`;
}

const numberBytes = 8;

/** The one process that changes the number. */
export class RemovalMarkWriter implements Disposable {
  readonly #descriptor: number;
  readonly #number = Buffer.alloc(numberBytes);

  /**
   * Changes the number at once, since what came before is not known.
   *
   * @param state - The fleet's directory of state.
   * @throws A system error.
   */
  constructor(state: string, kind: RemovedKind) {
    this.#descriptor = openSync(
      markPath(state, kind),
      constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW,
      0o644,
    );
    randomBytesAtStart(numberBytes).copy(this.#number);
    this.advance();
  }

  /** Changes the number. @throws A system error. */
  advance(): void {
    this.#number.writeBigUInt64LE(BigInt.asUintN(64, this.#number.readBigUInt64LE() + 1n));
    writeSync(this.#descriptor, this.#number, 0, numberBytes, 0);
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}

/** A process that reads the number. */
export class RemovalMarkReader implements Disposable {
  readonly #path: string;
  readonly #number = Buffer.alloc(numberBytes);
  #descriptor: number | undefined;

  /** @param state - The fleet's directory of state. */
  constructor(state: string, kind: RemovedKind) {
    this.#path = markPath(state, kind);
  }

  /** The present number; undefined when there is none, so that nothing learnt before may be relied on. */
  read(): bigint | undefined {
    // A file that has been deleted is changed by nobody any more.
    if (this.#descriptor !== undefined && fstatSync(this.#descriptor).nlink === 0) {
      this[Symbol.dispose]();
    }
    this.#descriptor ??= this.#open();
    if (this.#descriptor === undefined || readSync(this.#descriptor, this.#number, 0, numberBytes, 0) < numberBytes) {
      return undefined;
    }
    return this.#number.readBigUInt64LE();
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== undefined) {
      closeSync(this.#descriptor);
      this.#descriptor = undefined;
    }
  }

  #open(): number | undefined {
    try {
      return openSync(this.#path, constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch (error) {
      if (systemErrorCode(error) === "ENOENT") {
        return undefined;
      }
      throw error;
    }
  }
}
