import { ConnectionFault, ErrorCode } from "./protocol.ts";

/** What the peer of a connection may still send on all its streams together. */
export class ReceiveWindow {
  /** Credit goes back when this much has come together, so that not every frame costs an update. */
  readonly #stepBytes: number;
  #leftBytes: number;
  #returnedBytes = 0;

  constructor(windowBytes: number) {
    this.#leftBytes = windowBytes;
    this.#stepBytes = windowBytes / 4;
  }

  /**
   * Counts payload that has arrived.
   *
   * @throws ConnectionFault when the peer was not allowed to send it.
   */
  take(sizeBytes: number): void {
    this.#leftBytes -= sizeBytes;
    if (this.#leftBytes < 0) {
      throw new ConnectionFault(ErrorCode.FlowControlError, "more DATA than the window of the connection allows");
    }
  }

  /** Counts payload that is done with. Returns what the peer is to be told that it may send in addition, often 0. */
  giveBack(sizeBytes: number): number {
    this.#returnedBytes += sizeBytes;
    if (this.#returnedBytes < this.#stepBytes) {
      return 0;
    }
    const incrementBytes = this.#returnedBytes;
    this.#leftBytes += incrementBytes;
    this.#returnedBytes = 0;
    return incrementBytes;
  }
}
