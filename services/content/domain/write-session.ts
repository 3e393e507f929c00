import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { isDigest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import { type IngestWriter, openIngestWriter, type WriterParts } from "./ingest-writer.ts";
import type { IngestName } from "./ports.ts";

/** What a message asks for, by its number on the wire. Other numbers do nothing and are answered all the same. */
export const writeAction = { stat: 0, write: 1, commit: 2 } as const;

/** A message of a client, with its names on the wire. */
export interface WriteMessage {
  readonly action: number;
  /** Counts in the first message only. */
  readonly ref: string;
  /** Size of the finished blob; not positive means that nothing is said. */
  readonly total: bigint;
  /** Digest of the finished blob; "" means that nothing is said. */
  readonly expected: string;
  readonly offset: bigint;
  readonly data: Uint8Array;
  /** Counts in a commit only. */
  readonly labels: Labels;
}

/** The answer to a message. Times are nanoseconds since the epoch. */
export interface WriteReply {
  readonly action: number;
  readonly startedAtNs?: bigint;
  readonly updatedAtNs?: bigint;
  readonly offset: bigint;
  readonly total: bigint;
  readonly digest: string;
}

/** On whose behalf a session writes. */
export interface WriteOrigin {
  readonly namespace: string;
  /** "" for none. */
  readonly lease: string;
  readonly signal: AbortSignal;
}

/**
 * Answers the messages of one Write call, one by one, from the opening of the ingest to its commit or the end of the
 * messages. Then the last answer is given once more, as containerd does.
 *
 * - The first message opens the ingest by its `ref` and is then treated as the others.
 * - Fields that an answer does not set keep the value of the answer before.
 * - An offset of 0 behind the start throws all bytes away, and any other offset that is not the end is refused.
 * - A broken session keeps what it wrote, for the next one to take up.
 *
 * The index is asked when the ingest is opened, when it is committed, and when a message before the commit names
 * another expected digest than the messages before; never for the sake of bytes.
 *
 * @throws {@link FlotillaError} as {@link openIngestWriter} and `commitIngest`, and `out_of_range` for a wrong offset.
 * @source containerd v2.3.4 plugins/services/content/contentserver/contentserver.go `(*service).Write`
 */
export async function* runWriteSession(
  parts: WriterParts,
  origin: WriteOrigin,
  messages: AsyncIterable<WriteMessage>,
): AsyncGenerator<WriteReply, void, undefined> {
  let session: WriteSession | undefined;
  let reply: WriteReply | undefined;
  let isOver = false;
  try {
    // Leaving a `for await` early would end the iterator, and with it the stream that the last answers go out on.
    const iterator = messages[Symbol.asyncIterator]();
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
      const message = next.value;
      session ??= await openSession(parts, origin, message);
      reply = await session.answer(message);
      yield reply;
      if (message.action === writeAction.commit) {
        break;
      }
    }
    if (reply === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, "EOF");
    }
    isOver = true;
  } finally {
    const closed = session?.close();
    await (isOver ? closed : closed?.catch(() => undefined));
  }
  yield reply;
}

async function openSession(parts: WriterParts, origin: WriteOrigin, first: WriteMessage): Promise<WriteSession> {
  if (first.ref === "") {
    throw new FlotillaError(ErrorKind.InvalidArgument, "first message must have a reference");
  }
  const name = { namespace: origin.namespace, ref: first.ref };
  const totalBytes = first.total > 0n ? first.total : 0n;
  const writer = await openIngestWriter(parts, { ...origin, ...name, expected: first.expected, totalBytes });
  return new WriteSession(parts, name, writer, first.expected);
}

class WriteSession {
  readonly #parts: WriterParts;
  readonly #name: IngestName;
  readonly #writer: IngestWriter;
  #total = 0n;
  #expected: string;
  #reply: WriteReply = { action: writeAction.stat, offset: 0n, total: 0n, digest: "" };

  constructor(parts: WriterParts, name: IngestName, writer: IngestWriter, expected: string) {
    this.#parts = parts;
    this.#name = name;
    this.#writer = writer;
    this.#expected = expected;
  }

  close(): Promise<void> {
    return this.#writer.close();
  }

  async answer(message: WriteMessage): Promise<WriteReply> {
    if (message.action !== writeAction.commit) {
      await this.#takeExpectations(message);
      return this.#act(message);
    }
    this.#expected = message.expected === "" ? this.#expected : message.expected;
    this.#takeTotal(message);
    try {
      return await this.#act(message);
    } catch (error) {
      throw await this.#explainFailedCommit(message, error);
    }
  }

  async #takeExpectations(message: WriteMessage): Promise<void> {
    if (message.expected !== "" && message.expected !== this.#expected) {
      this.#expected = message.expected;
      await this.#requireAbsent(message.expected);
    }
    this.#takeTotal(message);
  }

  #takeTotal(message: WriteMessage): void {
    if (message.total > 0n) {
      this.#total = message.total;
    }
  }

  async #act(message: WriteMessage): Promise<WriteReply> {
    const { action } = message;
    const { offsetBytes, startedAtNs, updatedAtNs } = this.#writer.status;
    this.#reply = { ...this.#reply, action, offset: offsetBytes };
    if (action === writeAction.stat) {
      const digest = this.#writer.digest();
      this.#reply = { ...this.#reply, startedAtNs, updatedAtNs, total: this.#total, digest };
    } else if (action === writeAction.write || action === writeAction.commit) {
      await this.#write(message, offsetBytes);
      if (action === writeAction.commit) {
        const { labels } = message;
        await this.#writer.commit({ sizeBytes: this.#total, expected: this.#expected, labels });
      }
      this.#reply = { ...this.#reply, digest: this.#writer.digest() };
    }
    return this.#reply;
  }

  async #write({ offset, data }: WriteMessage, currentBytes: bigint): Promise<void> {
    if (offset > 0n && offset !== currentBytes) {
      throw new FlotillaError(ErrorKind.OutOfRange, `write @${offset} must occur at current offset ${currentBytes}`);
    }
    let endBytes = currentBytes;
    if (offset === 0n && currentBytes > 0n) {
      await this.#truncate();
      endBytes = 0n;
    }
    if (data.length > 0) {
      await this.#writer.append(data);
      endBytes += BigInt(data.length);
    }
    this.#reply = { ...this.#reply, offset: endBytes };
  }

  async #truncate(): Promise<void> {
    try {
      await this.#writer.truncate();
    } catch (error) {
      throw wrapFailure(error, "truncate failed");
    }
  }

  /**
   * containerd asks for the expected blob before it commits, and so finds it before it finds anything else wrong. Here
   * the commit itself tells, and only a commit that fails for another reason has to ask.
   */
  async #explainFailedCommit(message: WriteMessage, error: unknown): Promise<unknown> {
    if (message.expected === "") {
      return error;
    }
    if (isFailure(error, ErrorKind.AlreadyExists)) {
      return blobExists(message.expected, error);
    }
    if (isFailure(error, ErrorKind.FailedPrecondition, ErrorKind.OutOfRange)) {
      try {
        await this.#requireAbsent(message.expected);
      } catch (found) {
        return isFailure(found, ErrorKind.AlreadyExists) ? found : error;
      }
    }
    return error;
  }

  async #requireAbsent(expected: string): Promise<void> {
    if (!isDigest(expected)) {
      return;
    }
    const [known] = await this.#parts.index.resolveBlobs(this.#name.namespace, [expected]);
    if (known !== undefined) {
      await this.#writer.abort();
      throw blobExists(expected);
    }
  }
}

function blobExists(expected: string, cause?: unknown): FlotillaError {
  return new FlotillaError(ErrorKind.AlreadyExists, `blob with expected digest ${expected} exists`, { cause });
}
