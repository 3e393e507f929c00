import { wholeBuffer } from "#wire/http2/data-flow.ts";
import type { HeaderList } from "#wire/http2/header-list.ts";
import { gatedResponsesMax } from "./limits.ts";
import type { RelayedStream } from "./stream.ts";
import type { StreamOwner } from "./stream-owner.ts";

/**
 * The responses to repeatable calls that one upstream connection holds back until they are complete, so that a call whose process dies
 * amid its response can still be sent again.
 */
export class ResponseGate {
  readonly #client: StreamOwner;
  #heldResponses = 0;

  constructor(client: StreamOwner) {
    this.#client = client;
  }

  /**
   * Holds a response back that begins.
   *
   * @returns Whether it does; not where the call may not be sent again, or too many are held back.
   */
  hold(stream: RelayedStream, head: HeaderList): boolean {
    const mayHold =
      stream.method?.repeatable === true &&
      stream.method.streaming !== true &&
      !stream.hasResponse &&
      stream.gatedHead === undefined &&
      this.#heldResponses < gatedResponsesMax &&
      stream.down.receiveWindowBytes > 0;
    if (mayHold) {
      this.#heldResponses += 1;
      stream.gatedHead = wholeBuffer(head.block);
      stream.down.sink = undefined;
    }
    return mayHold;
  }

  /** Sends a response that was held back; nothing happens to others. */
  open(stream: RelayedStream): void {
    const { gatedHead, down, id } = stream;
    if (gatedHead !== undefined) {
      this.#heldResponses -= 1;
      stream.gatedHead = undefined;
      stream.hasResponse = true;
      stream.releaseKept();
      this.#client.sendHeaders(id, gatedHead, false);
      down.sink = this.#client;
      down.flow();
      down.passCredit();
    }
  }

  /** Forgets a response that was held back; nothing happens to others. */
  drop(stream: RelayedStream): void {
    if (stream.gatedHead !== undefined) {
      this.#heldResponses -= 1;
      stream.gatedHead = undefined;
      stream.down.restart(this.#client);
    }
  }
}
