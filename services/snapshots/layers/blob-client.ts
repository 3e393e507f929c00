import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { Content, WriteAction, type WriteContentResponse } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { BlobStore, ContentOwner, WrittenBlob } from "./ports.ts";

/**
 * The blobs of the fleet.
 *
 * @param connections - To the process that keeps the bytes and to the one that keeps the labels.
 */
export function connectBlobStore(connections: {
  readonly content: RpcConnection;
  readonly metadata: RpcConnection;
}): BlobStore {
  const blobs = createClient(Blobs, connections.content.transport);
  const content = createClient(Content, connections.content.transport);
  const records = createClient(Content, connections.metadata.transport);
  return {
    async locate({ namespace, signal }, digest) {
      return (await blobs.openBlob({ namespace, digest }, { signal })).path;
    },
    async write(owner, ref, bytes, labels) {
      const upload = new Upload(content, owner, ref);
      try {
        for await (const data of bytes) {
          await upload.append(data);
        }
        return await upload.commit(labels());
      } finally {
        await upload.close();
      }
    },
    async abort({ namespace, lease }, ref) {
      await content.abort({ ref }, { headers: clientHeaders(namespace, lease) });
    },
    async addLabel({ namespace, signal }, digest, key, value) {
      const call = { headers: clientHeaders(namespace), signal };
      const { info } = await records.info({ digest }, call);
      if (info !== undefined && info.labels[key] === undefined) {
        const labels = { ...info.labels, [key]: value };
        await records.update({ info: { digest, labels }, updateMask: { paths: [`labels.${key}`] } }, call);
      }
    },
  };
}

interface WriteMessage {
  readonly action: WriteAction;
  readonly ref?: string;
  readonly offset: bigint;
  readonly data?: Uint8Array;
  readonly expected?: string;
  readonly labels?: Record<string, string>;
}

/** One Write call: a message, its answer, the next message. */
class Upload {
  readonly #messages = new MessageQueue();
  readonly #replies: AsyncIterator<WriteContentResponse>;
  readonly #stop = new AbortController();
  readonly #ref: string;
  #offset = 0n;
  #digest = "";
  #committed = false;

  constructor(content: Client<typeof Content>, { namespace, lease, signal }: ContentOwner, ref: string) {
    this.#ref = ref;
    const replies = content.write(this.#messages, {
      headers: clientHeaders(namespace, lease),
      signal: AbortSignal.any([signal, this.#stop.signal]),
    });
    this.#replies = replies[Symbol.asyncIterator]();
  }

  /** Appends bytes; the first ones, at offset 0, throw away what the ingest had. */
  async append(data: Uint8Array): Promise<void> {
    const { offset, digest } = await this.#exchange({
      action: WriteAction.WRITE,
      ...(this.#offset === 0n ? { ref: this.#ref } : {}),
      offset: this.#offset,
      data,
    });
    this.#offset += BigInt(data.length);
    this.#digest = digest;
    if (offset !== this.#offset) {
      throw failure(ErrorKind.DataLoss, `unexpected write offset ${offset}, expected ${this.#offset}`);
    }
  }

  async commit(labels: Readonly<Record<string, string>>): Promise<WrittenBlob> {
    const written = { digest: this.#digest, sizeBytes: this.#offset };
    this.#committed = true;
    try {
      await this.#exchange({
        action: WriteAction.COMMIT,
        offset: this.#offset,
        expected: this.#digest,
        labels: { ...labels },
      });
      return { ...written, existed: false };
    } catch (error) {
      if (isFailure(error, ErrorKind.AlreadyExists)) {
        return { ...written, existed: true };
      }
      throw error;
    }
  }

  /** Ends the call; without a commit it is broken off, which lets go of the ingest. */
  async close(): Promise<void> {
    this.#messages.end();
    if (!this.#committed) {
      this.#stop.abort();
    }
    try {
      while ((await this.#replies.next()).done !== true) {
        continue;
      }
    } catch {
      // What the call had to say has been said to whoever sent the last message.
    }
  }

  async #exchange(message: WriteMessage): Promise<WriteContentResponse> {
    this.#messages.push(message);
    const { done, value } = await this.#replies.next();
    if (done === true) {
      throw failure(ErrorKind.Unavailable, `write of ref ${this.#ref} ended early`);
    }
    return value;
  }
}

/** Messages of one call; never more than one waits, since the next comes after the answer. */
class MessageQueue implements AsyncIterable<WriteMessage> {
  readonly #waiting: WriteMessage[] = [];
  #ended = false;
  #wake: () => void = () => undefined;

  push(message: WriteMessage): void {
    this.#waiting.push(message);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WriteMessage> {
    for (;;) {
      const message = this.#waiting.shift();
      if (message !== undefined) {
        yield message;
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}
