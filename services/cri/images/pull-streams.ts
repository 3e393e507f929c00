import { randomBytes } from "node:crypto";
import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { StreamInitSchema } from "#gen/containerd/services/streaming/v1/streaming_pb.ts";
import { MessageQueue } from "#wire/message-queue.ts";
import { type CriPeers, criCall } from "../peers.ts";

/** A stream that a transfer uses by its id. */
export interface PullStream {
  readonly id: string;
  /** Resolves when the stream has ended; never rejects. */
  readonly ended: Promise<void>;
  /** Ends it. */
  close(): void;
}

/**
 * Opens a stream for a transfer.
 *
 * @param onBroken - Told when it has ended otherwise than by the transfer.
 * @param onMessage - Gets each message; what it gives back is sent. What it throws ends the stream.
 * @throws {@link FlotillaError} when the stream can't be opened.
 */
export async function openPullStream(
  { streaming }: Pick<CriPeers, "streaming">,
  {
    purpose,
    signal,
    onMessage,
    onBroken,
  }: {
    readonly purpose: string;
    readonly signal: AbortSignal;
    readonly onMessage: (message: Any) => Any | undefined;
    readonly onBroken: () => void;
  },
): Promise<PullStream> {
  const id = `cri-${purpose}-${randomBytes(12).toString("hex")}`;
  const closing = new AbortController();
  const queue = new MessageQueue<Any>();
  queue.push(packAny(StreamInitSchema, { id }));
  const call = criCall({ signal: AbortSignal.any([signal, closing.signal]), timeoutMs: Number.POSITIVE_INFINITY });
  const messages = streaming.stream(queue, call)[Symbol.asyncIterator]();
  const close = (): void => {
    queue.end();
    closing.abort();
  };
  try {
    if ((await messages.next()).done === true) {
      throw failure(ErrorKind.Unavailable, `stream ${id} ended early`);
    }
  } catch (error) {
    close();
    throw error;
  }
  const serve = async (): Promise<void> => {
    try {
      for (let next = await messages.next(); next.done !== true; next = await messages.next()) {
        const answer = onMessage(next.value);
        if (answer !== undefined) {
          queue.push(answer);
        }
      }
    } catch {
      // The transfer says what went wrong, if its process is there to say it.
      if (call.signal?.aborted !== true) {
        onBroken();
      }
    } finally {
      close();
    }
  };
  return { id, ended: serve(), close };
}

/** Wraps a message as containerd does, under its bare name. */
export function packAny<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Any {
  return create(AnySchema, { typeUrl: schema.typeName, value: toBinary(schema, create(schema, message)) });
}

/** Takes a message of a type out, or nothing where it is of another. */
export function unpackAny<D extends DescMessage>(schema: D, { typeUrl, value }: Any) {
  return typeUrl.split("/").at(-1) === schema.typeName ? fromBinary(schema, value) : undefined;
}
