import { ErrorKind, failure } from "#base/errors.ts";
import type { Call } from "#wire/handler.ts";
import type { Position, StoredEvent } from "../bus/bus.ts";

/** How many events may go by that a subscriber does not want before it is told, so that it does not fall behind what is kept. */
const untoldMax = 256;

/** Where a subscription stands, told in front of what it gets, so that the next process can go on with it. */
export class Place {
  readonly #call: Call;
  readonly #store: string;
  #sequence: number;
  #told = 0;

  constructor(call: Call, { store, sequence }: Position) {
    this.#call = call;
    this.#store = store;
    this.#sequence = sequence;
  }

  /** Everything before these events has been given. */
  reach([first]: readonly StoredEvent[]): void {
    if (first !== undefined) {
      this.#sequence = first.sequence;
      if (this.#sequence - this.#told >= untoldMax) {
        this.tell();
      }
    }
  }

  /** Tells the place, unless it is known. */
  tell(): void {
    if (this.#told !== this.#sequence) {
      this.#told = this.#sequence;
      this.#call.resumeAt?.(`${this.#store}/${this.#sequence}`);
    }
  }
}

/**
 * Reads what another process has told by {@link Place.tell}.
 *
 * @throws {@link FlotillaError} `invalid_argument`.
 */
export function readPlace(told: string): Position {
  const [, store, sequence] = /^([^/]+)\/(\d{1,15})$/.exec(told) ?? [];
  if (store === undefined || sequence === undefined) {
    throw failure(ErrorKind.InvalidArgument, "this is no place among events");
  }
  return { store, sequence: Number(sequence) };
}
