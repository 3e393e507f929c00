import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { type Digest, parseDigest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import { ContentWrite, type ExpectedBlob } from "#fleet/peers/content-write.ts";
import type { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import type { Ingest } from "../registry/ports.ts";
import type { Caller } from "./caller.ts";

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

/** An ingest held by one Write call. */
export class ContentIngest implements Ingest {
  readonly #write: ContentWrite;
  readonly #blob: ExpectedBlob;

  private constructor(write: ContentWrite, blob: ExpectedBlob) {
    this.#write = write;
    this.#blob = blob;
  }

  /**
   * Opens an ingest and locks it.
   *
   * @throws {@link FlotillaError} `already_exists` when the namespace has the expected blob, which the lease holds then;
   *   `unavailable` when somebody else writes it.
   */
  static async open(content: Client<typeof Content>, caller: Caller, options: IngestOptions): Promise<ContentIngest> {
    const { ref, expected, totalBytes, signal } = options;
    const write = new ContentWrite(content, { ...caller, ref, signal });
    const blob = { totalBytes, ...(expected === undefined ? {} : { digest: expected }) };
    try {
      await write.stat(blob);
      return new ContentIngest(write, blob);
    } catch (error) {
      await write.close();
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
    return Number(this.#write.offset);
  }

  /** Digest of what is there, of the expected digest's algorithm. */
  get digest(): Digest {
    return parseDigest(this.#write.digest);
  }

  append(data: Uint8Array): Promise<void> {
    return this.#write.append(data);
  }

  truncate(): Promise<void> {
    return this.#write.truncate();
  }

  commit(labels: Labels): Promise<void> {
    return this.#write.commit(this.#blob, labels);
  }

  close(): Promise<void> {
    return this.#write.close();
  }
}

async function waitFor(delayMs: number, signal: AbortSignal): Promise<void> {
  await delay(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}
