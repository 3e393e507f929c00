import { ErrorKind, failure } from "#base/errors.ts";
import type { ProgressEvent } from "./progress.ts";

/** How far back the rate looks. */
const rateWindowMs = 5_000;
/** How often the rate's window is moved at most. */
const markMs = 250;

export type TransferKind = "pull" | "push" | "import" | "export" | "tag" | "echo";

/** What a transfer is, as whoever administers the daemon sees it. */
export interface TransferFacts {
  readonly namespace: string;
  readonly kind: TransferKind;
  /** The reference or the names of images, "" for an archive that comes in. */
  readonly subject: string;
}

/** How far a transfer is. */
export interface TransferState extends TransferFacts {
  readonly id: number;
  readonly startedAtMs: number;
  readonly movedBytes: number;
  /** Of the blobs that are known by now; 0 for an archive. */
  readonly knownBytes: number;
  readonly bytesPerSecond: number;
  /** The most transfers of others that wait for any one download of this one. */
  readonly waitingClients: number;
}

/** The transfers of a process that are under way, by numbers under which they can be ended. */
export class UnderWay {
  readonly #transfers = new Map<number, RunningTransfer>();
  readonly #now: () => number;
  #count = 0;

  /** @param now - Milliseconds of a clock that nobody sets. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Adds a transfer, until it is disposed of. @param signal - Ends it as well. */
  begin(facts: TransferFacts, signal: AbortSignal): RunningTransfer {
    this.#count += 1;
    const id = this.#count;
    const transfer = new RunningTransfer(
      { id, facts, now: this.#now, onEnd: () => this.#transfers.delete(id) },
      signal,
    );
    this.#transfers.set(id, transfer);
    return transfer;
  }

  /** How far each is, the oldest first. */
  list(): TransferState[] {
    return [...this.#transfers.values()].map((transfer) => transfer.state());
  }

  /**
   * Ends a transfer, and resolves when it has ended.
   *
   * @throws {@link FlotillaError} `not_found`; what the signal says, when nobody waits any more.
   */
  async cancel(id: number, signal: AbortSignal): Promise<void> {
    const transfer = this.#transfers.get(id);
    if (transfer === undefined) {
      throw failure(ErrorKind.NotFound, `transfer ${id}`);
    }
    transfer.cancel();
    const { promise: given, reject } = Promise.withResolvers<never>();
    const giveUp = (): void => reject(failure(ErrorKind.Canceled, `transfer ${id} has not ended yet`));
    signal.addEventListener("abort", giveUp, { once: true });
    if (signal.aborted) {
      giveUp();
    }
    try {
      await Promise.race([transfer.ended, given]);
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }
}

interface RunningTransferParts {
  readonly id: number;
  readonly facts: TransferFacts;
  readonly now: () => number;
  readonly onEnd: () => void;
}

/** One transfer that is under way. It is told how far it is by whoever makes it. */
export class RunningTransfer implements Disposable {
  /** Aborts when the client gives up, and when the transfer is cancelled here. */
  readonly signal: AbortSignal;
  readonly ended: Promise<void>;
  readonly #parts: RunningTransferParts;
  readonly #cancelling = new AbortController();
  readonly #startedAtMs = Date.now();
  readonly #blobs = new Map<string, { readonly moved: number; readonly total: number }>();
  readonly #waiting = new Map<string, number>();
  readonly #marks: { readonly atMs: number; readonly bytes: number }[];
  readonly #end: () => void;
  #archiveBytes = 0;

  constructor(parts: RunningTransferParts, signal: AbortSignal) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#parts = parts;
    this.ended = promise;
    this.#end = resolve;
    this.signal = AbortSignal.any([signal, this.#cancelling.signal]);
    this.#marks = [{ atMs: parts.now(), bytes: 0 }];
  }

  /** Takes what clients are told too. What is unpacked is not moved. */
  note({ event, name = "", progress = 0, total = 0, descriptor }: ProgressEvent): void {
    if (descriptor === undefined || total === 0 || event === "extracting" || event === "extracted") {
      return;
    }
    this.#blobs.set(name, { moved: progress, total });
    this.#mark();
  }

  /** Takes bytes of an archive. */
  addBytes(bytes: number): void {
    this.#archiveBytes += bytes;
    this.#mark();
  }

  /** Takes how many transfers of others wait for a download of this one. */
  noteWaiting(digest: string, count: number): void {
    if (count === 0) {
      this.#waiting.delete(digest);
    } else {
      this.#waiting.set(digest, count);
    }
  }

  cancel(): void {
    this.#cancelling.abort(failure(ErrorKind.Canceled, `transfer ${this.#parts.id} was ended by the administrator`));
  }

  state(): TransferState {
    const { id, facts } = this.#parts;
    return {
      ...facts,
      id,
      startedAtMs: this.#startedAtMs,
      movedBytes: this.#movedBytes(),
      knownBytes: [...this.#blobs.values()].reduce((sum, { total }) => sum + total, 0),
      bytesPerSecond: this.#rate(),
      waitingClients: Math.max(0, ...this.#waiting.values()),
    };
  }

  [Symbol.dispose](): void {
    this.#parts.onEnd();
    this.#end();
  }

  #movedBytes(): number {
    return [...this.#blobs.values()].reduce((sum, { moved }) => sum + moved, this.#archiveBytes);
  }

  #mark(): void {
    const atMs = this.#parts.now();
    if (atMs - (this.#marks.at(-1)?.atMs ?? 0) >= markMs) {
      this.#marks.push({ atMs, bytes: this.#movedBytes() });
      this.#forgetOldMarks(atMs);
    }
  }

  /** The newest that is older than the window stays: from it the window is measured. */
  #forgetOldMarks(nowMs: number): void {
    while ((this.#marks[1]?.atMs ?? nowMs) <= nowMs - rateWindowMs) {
      this.#marks.shift();
    }
  }

  #rate(): number {
    const nowMs = this.#parts.now();
    this.#forgetOldMarks(nowMs);
    const [from] = this.#marks;
    const elapsedMs = nowMs - (from?.atMs ?? nowMs);
    return elapsedMs <= 0 ? 0 : Math.round(((this.#movedBytes() - (from?.bytes ?? 0)) * 1000) / elapsedMs);
  }
}
