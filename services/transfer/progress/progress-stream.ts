import { ProgressSchema } from "#gen/containerd/types/transfer/progress_pb.ts";
import { packMessage } from "../streams/any.ts";
import type { Stream } from "../streams/stream.ts";
import type { ProgressEvent, ProgressSink } from "./progress.ts";

/** How long a transfer that is over waits for its client to take the last events. */
const flushMsMax = 5_000;

/** Events of which a later one of the same name makes an earlier one that waits needless. */
const replaceable: ReadonlySet<string> = new Set(["downloading", "uploading", "extracting"]);

/**
 * Tells a client on a stream how far its transfer is.
 *
 * A slow client does not hold the transfer up: what waits for it is at most a few events for each blob. Once the client has gone,
 * events are dropped.
 */
export class ProgressStream implements AsyncDisposable {
  readonly #stream: Stream;
  readonly #waiting = new Map<string, ProgressEvent>();
  #count = 0;
  #isSending = false;
  #sent: Promise<void> = Promise.resolve();
  #isGone = false;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** Takes events from now on. */
  readonly sink: ProgressSink = (event) => {
    if (this.#isGone) {
      return;
    }
    this.#count += 1;
    const key = replaceable.has(event.event) ? (event.name ?? "") : `#${this.#count}`;
    this.#waiting.set(key, event);
    if (!this.#isSending) {
      this.#isSending = true;
      this.#sent = this.#send();
    }
  };

  /** Sends what waits, for a few seconds at most, and closes the stream. */
  async [Symbol.asyncDispose](): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, flushMsMax);
    });
    await Promise.race([this.#close(), late]);
    this.#isGone = true;
    clearTimeout(timer);
  }

  async #close(): Promise<void> {
    await this.#sent;
    await this.#stream.close();
  }

  async #send(): Promise<void> {
    try {
      for (const [key, event] of this.#waiting) {
        this.#waiting.delete(key);
        await this.#stream.send(packMessage(ProgressSchema, messageOf(event)));
      }
    } catch {
      // The client has gone, or wants to hear no more; its transfer goes on.
      this.#isGone = true;
      this.#waiting.clear();
    } finally {
      // In the same breath as the last look at what waits.
      this.#isSending = false;
    }
  }
}

function messageOf({ event, name = "", parents = [], progress = 0, total = 0, descriptor }: ProgressEvent) {
  return {
    event,
    name,
    parents: [...parents],
    progress: BigInt(progress),
    total: BigInt(total),
    ...(descriptor === undefined
      ? {}
      : {
          desc: {
            mediaType: descriptor.mediaType,
            digest: descriptor.digest,
            size: BigInt(descriptor.size),
            annotations: { ...descriptor.annotations },
          },
        }),
  };
}
