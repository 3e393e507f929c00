import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { Client } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import type { Labels } from "#containerd/labels.ts";
import {
  type Content,
  WriteAction,
  WriteContentRequestSchema,
  type WriteContentResponse,
} from "#gen/containerd/services/content/v1/content_pb.ts";
import { EncodedResponse } from "#wire/handler.ts";
import { clientHeaders } from "#wire/headers.ts";
import { MessageQueue } from "#wire/message-queue.ts";

/** Whose ingest is written, and until when. */
export interface ContentWriteOptions {
  readonly namespace: string;
  /** Lease that shall hold the blob, "" for none. */
  readonly lease: string;
  readonly ref: string;
  readonly signal: AbortSignal;
}

/** What is known of a blob before its bytes are complete. */
export interface ExpectedBlob {
  readonly digest?: string;
  readonly totalBytes?: number;
}

type WriteMessage = MessageInitShape<typeof WriteContentRequestSchema>;

/**
 * One call of Content.Write: a message, its answer, the next message. It holds the lock of its ingest from the first answer until
 * {@link close}, which must be called whatever happens.
 *
 * Every method throws what the content process answers; `unavailable` also when the call ended early.
 *
 * @source containerd v2.3.4 core/content/proxy/content_writer.go `remoteWriter`
 */
export class ContentWrite {
  readonly #messages = new MessageQueue<WriteMessage>();
  readonly #replies: AsyncIterator<WriteContentResponse>;
  readonly #stop = new AbortController();
  readonly #ref: string;
  #isOpened = false;
  #isCommitting = false;
  #isClosed = false;
  #offset = 0n;
  #digest = "";

  constructor(content: Client<typeof Content>, { namespace, lease, ref, signal }: ContentWriteOptions) {
    this.#ref = ref;
    const replies = content.write(this.#messages, {
      headers: clientHeaders(namespace, lease),
      signal: AbortSignal.any([signal, this.#stop.signal]),
    });
    this.#replies = replies[Symbol.asyncIterator]();
  }

  /** Bytes that the ingest has, as far as the last answer told. */
  get offset(): bigint {
    return this.#offset;
  }

  /** Digest of them, "" while no answer told one. */
  get digest(): string {
    return this.#digest;
  }

  /**
   * Opens the ingest as it is, and learns what it has.
   *
   * @throws {@link FlotillaError} `already_exists` when the namespace has the expected blob, which the lease holds then;
   *   `unavailable` when somebody else writes to the ref.
   */
  async stat(expected: ExpectedBlob): Promise<void> {
    await this.#exchange({ action: WriteAction.STAT, ...expectation(expected) });
  }

  /**
   * Appends bytes, which are sent from where they are and are the caller's again when it resolves. The first message of a call, which is at offset 0, throws away what
   * the ingest had.
   *
   * @throws {@link FlotillaError} `data_loss` when the ingest has another length than it must have.
   */
  async append(data: Uint8Array): Promise<void> {
    const end = this.#offset + BigInt(data.length);
    await this.#exchange({ action: WriteAction.WRITE, offset: this.#offset }, data);
    if (this.#offset !== end) {
      throw failure(ErrorKind.DataLoss, `unexpected write offset ${this.#offset}, expected ${end}`);
    }
  }

  /** Throws away what the ingest has. */
  async truncate(): Promise<void> {
    await this.#exchange({ action: WriteAction.WRITE, offset: 0n });
  }

  /**
   * Makes a blob of the ingest.
   *
   * @throws {@link FlotillaError} `already_exists`, after which the blob is there and the ingest is not; `failed_precondition` when size
   *   or digest are others than expected.
   */
  async commit(expected: ExpectedBlob, labels: Labels): Promise<void> {
    this.#isCommitting = true;
    await this.#exchange({
      action: WriteAction.COMMIT,
      offset: this.#offset,
      ...expectation(expected),
      labels: { ...labels },
    });
  }

  /** Ends the call; without a commit it is broken off, which lets go of the ingest. May be called twice. */
  async close(): Promise<void> {
    if (this.#isClosed) {
      return;
    }
    this.#isClosed = true;
    this.#messages.end();
    if (!this.#isCommitting) {
      this.#stop.abort(failure(ErrorKind.Canceled, `write of ref ${this.#ref}`));
    }
    try {
      while ((await this.#replies.next()).done !== true) {
        continue;
      }
    } catch {
      // What the call had to say has been said to whoever sent the last message.
    }
  }

  async #exchange(message: WriteMessage, data?: Uint8Array): Promise<void> {
    const request = this.#isOpened ? message : { ...message, ref: this.#ref };
    this.#messages.push(data === undefined ? request : withData(request, data));
    this.#isOpened = true;
    const { done, value } = await this.#replies.next();
    if (done === true) {
      throw failure(ErrorKind.Unavailable, `write of ref ${this.#ref} ended early`);
    }
    this.#offset = value.offset;
    if (value.digest !== "") {
      this.#digest = value.digest;
    }
  }
}

/** A message around bytes that are not copied. The transport takes an encoded message, of which clients' types know nothing. */
function withData(message: WriteMessage, data: Uint8Array): WriteMessage {
  const head = toBinary(WriteContentRequestSchema, create(WriteContentRequestSchema, message));
  const { number } = WriteContentRequestSchema.field.data;
  const prefix = new BinaryWriter().raw(head).tag(number, WireType.LengthDelimited).uint32(data.byteLength).finish();
  return new EncodedResponse(prefix, data) as unknown as WriteMessage;
}

function expectation({ digest, totalBytes }: ExpectedBlob): Pick<WriteMessage, "expected" | "total"> {
  return {
    ...(digest === undefined ? {} : { expected: digest }),
    ...(totalBytes === undefined ? {} : { total: BigInt(totalBytes) }),
  };
}
