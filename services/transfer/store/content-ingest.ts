import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "@connectrpc/connect";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { type Digest, parseDigest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import {
  type Content,
  WriteAction,
  type WriteContentResponse,
} from "#gen/containerd/services/content/v1/content_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Ingest } from "../registry/ports.ts";
import type { Caller } from "./caller.ts";
import { MessageQueue } from "./message-queue.ts";

/** What is known of a blob before its bytes come. */
export interface IngestOptions {
  readonly ref: string;
  /** Absent when only the bytes will tell. */
  readonly expected?: Digest;
  readonly totalBytes: number;
  readonly signal: AbortSignal;
}

/** Longest wait between two tries to open an ingest that somebody else is writing. @source containerd v2.3.4 core/content/helpers.go `OpenWriter` */
const retryDelayMsMax = 2_048;

interface WriteMessage {
  readonly action: WriteAction;
  readonly ref?: string;
  readonly total?: bigint;
  readonly expected?: string;
  readonly offset?: bigint;
  readonly data?: Uint8Array;
  readonly labels?: Record<string, string>;
}

/** An ingest held by one Write call: a message, its answer, the next message. */
export class ContentIngest implements Ingest {
  readonly #messages = new MessageQueue<WriteMessage>();
  readonly #replies: AsyncIterator<WriteContentResponse>;
  readonly #stop = new AbortController();
  readonly #options: IngestOptions;
  #status: { readonly offset: bigint; readonly digest: string } = { offset: 0n, digest: "" };
  #isCommitting = false;
  #isClosed = false;

  private constructor(content: Client<typeof Content>, { namespace, lease }: Caller, options: IngestOptions) {
    this.#options = options;
    const replies = content.write(this.#messages, {
      headers: clientHeaders(namespace, lease),
      signal: AbortSignal.any([options.signal, this.#stop.signal]),
    });
    this.#replies = replies[Symbol.asyncIterator]();
  }

  /**
   * Opens an ingest and locks it.
   *
   * @throws {@link FlotillaError} `already_exists` when the namespace has the expected blob, which the lease holds then;
   *   `unavailable` when somebody else writes it.
   */
  static async open(content: Client<typeof Content>, caller: Caller, options: IngestOptions): Promise<ContentIngest> {
    const { ref, expected, totalBytes } = options;
    const ingest = new ContentIngest(content, caller, options);
    try {
      await ingest.#exchange({
        action: WriteAction.STAT,
        ref,
        total: BigInt(totalBytes),
        ...(expected === undefined ? {} : { expected }),
      });
      return ingest;
    } catch (error) {
      await ingest.close();
      throw error;
    }
  }

  /**
   * Opens an ingest; while somebody else writes it, waits for as long as the signal lets it.
   *
   * @throws as {@link open}; what the signal says when it aborts.
   */
  static async openInTurn(
    content: Client<typeof Content>,
    caller: Caller,
    options: IngestOptions,
  ): Promise<ContentIngest> {
    for (let delayMs = 16; ; delayMs = Math.min(delayMs * 2, retryDelayMsMax)) {
      try {
        return await ContentIngest.open(content, caller, options);
      } catch (error) {
        if (!isFailure(error, ErrorKind.Unavailable)) {
          throw error;
        }
      }
      await waitFor(delayMs * Math.random(), options.signal);
    }
  }

  get offset(): number {
    return Number(this.#status.offset);
  }

  /** Digest of what is there, of the expected digest's algorithm. */
  get digest(): Digest {
    return parseDigest(this.#status.digest);
  }

  async append(data: Uint8Array): Promise<void> {
    const end = this.#status.offset + BigInt(data.length);
    await this.#exchange({ action: WriteAction.WRITE, offset: this.#status.offset, data });
    if (this.#status.offset !== end) {
      throw failure(ErrorKind.DataLoss, `unexpected write offset ${this.#status.offset}, expected ${end}`);
    }
  }

  async truncate(): Promise<void> {
    await this.#exchange({ action: WriteAction.WRITE, offset: 0n });
  }

  async commit(labels: Labels): Promise<void> {
    const { expected, totalBytes } = this.#options;
    this.#isCommitting = true;
    await this.#exchange({
      action: WriteAction.COMMIT,
      offset: this.#status.offset,
      total: BigInt(totalBytes),
      ...(expected === undefined ? {} : { expected }),
      labels: { ...labels },
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) {
      return;
    }
    this.#isClosed = true;
    this.#messages.end();
    if (!this.#isCommitting) {
      this.#stop.abort(failure(ErrorKind.Canceled, `write of ref ${this.#options.ref}`));
    }
    try {
      while ((await this.#replies.next()).done !== true) {
        continue;
      }
    } catch {
      // What the call had to say has been said to whoever sent the last message.
    }
  }

  async #exchange(message: WriteMessage): Promise<void> {
    this.#messages.push(message);
    const { done, value } = await this.#replies.next();
    if (done === true) {
      throw failure(ErrorKind.Unavailable, `write of ref ${this.#options.ref} ended early`);
    }
    const { offset, digest } = value;
    this.#status = { offset, digest: digest === "" ? this.#status.digest : digest };
  }
}

async function waitFor(delayMs: number, signal: AbortSignal): Promise<void> {
  await delay(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}
