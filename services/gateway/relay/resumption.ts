import type { Direction } from "./flow-control.ts";

/**
 * Where the response of a stream goes on when the process that gives it dies amid it: the process tells points, and the bytes behind the last
 * one are counted. The next process begins at that point, and what is known of its response is skipped, so that nobody has to know where
 * messages begin or end.
 */
export class Resumption {
  readonly #down: Direction;
  #point = "";
  /** What the client has got, or will get, of what is behind the point. */
  #behindBytes = 0;
  /** How much of what comes the client has got. */
  #knownBytes = 0;
  /** Whether the process that has the call now has told a point, so that it has the call in hand. */
  isInHand = false;
  #awaitsHead = false;

  /** @param down - The way of the response. */
  constructor(down: Direction) {
    this.#down = down;
  }

  /** The point that the next process is told; empty for the beginning. */
  get point(): string {
    return this.#point;
  }

  /** What comes from now on begins at this point. */
  pass(point: string): void {
    this.#point = point;
    this.#behindBytes = this.#knownBytes;
    this.isInHand = true;
  }

  /** The process is gone, and another will be asked. @param hasHead - Whether the client has the head of the response. */
  restart(hasHead: boolean): void {
    this.#knownBytes = this.#behindBytes;
    this.#awaitsHead = hasHead;
    this.isInHand = false;
  }

  /** Takes the head of a response. @returns Whether the client has one already. */
  takesHead(): boolean {
    const isKnown = this.#awaitsHead;
    this.#awaitsHead = false;
    return isKnown;
  }

  /** Takes bytes of a response, and skips those that the client has got already. @returns How many these were. */
  takeBytes(sizeBytes: number): number {
    const knownBytes = Math.min(sizeBytes, this.#knownBytes);
    this.#behindBytes += sizeBytes - knownBytes;
    if (knownBytes > 0) {
      this.#knownBytes -= knownBytes;
      this.#down.skip(knownBytes);
    }
    return knownBytes;
  }
}
