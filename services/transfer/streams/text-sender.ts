import { ByteSender } from "./byte-stream.ts";
import type { Stream } from "./stream.ts";

/** Most characters that wait for the client; what comes when there are more is dropped. */
const waitingCharactersMax = 1024 * 1024;

/** Sends text to a client that may read it or not, without waiting for it. */
export class TextSender {
  readonly #sender: ByteSender;
  #waiting = "";
  #isSending = false;

  constructor(stream: Stream) {
    this.#sender = new ByteSender(stream);
  }

  write(text: string): void {
    if (this.#waiting.length + text.length > waitingCharactersMax) {
      return;
    }
    this.#waiting += text;
    if (!this.#isSending) {
      this.#isSending = true;
      void this.#send();
    }
  }

  async #send(): Promise<void> {
    try {
      while (this.#waiting !== "") {
        const text = this.#waiting;
        this.#waiting = "";
        await this.#sender.write(Buffer.from(text));
      }
    } catch {
      // Nobody reads it.
      this.#waiting = "";
    } finally {
      this.#isSending = false;
    }
  }
}
