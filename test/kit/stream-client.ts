import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { createClient, type Transport } from "@connectrpc/connect";
import { StreamInitSchema, Streaming } from "#gen/containerd/services/streaming/v1/streaming_pb.ts";
import { DataSchema, WindowUpdateSchema } from "#gen/containerd/types/transfer/streaming_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { MessageQueue } from "#wire/message-queue.ts";

/** A message with its type, as containerd's clients write it. */
export interface Packed {
  readonly typeUrl: string;
  readonly value: Uint8Array<ArrayBuffer>;
}

export function pack<D extends DescMessage>(schema: D, message: MessageInitShape<D>): Packed {
  return { typeUrl: schema.typeName, value: new Uint8Array(toBinary(schema, create(schema, message))) };
}

export function unpack<D extends DescMessage>(schema: D, { typeUrl, value }: Packed | Any): MessageShape<D> {
  if (typeUrl !== schema.typeName) {
    throw new Error(`a ${typeUrl} came where a ${schema.typeName} was expected`);
  }
  return fromBinary(schema, value);
}

export interface StreamOptions {
  readonly namespace?: string;
  readonly lease?: string;
}

/** A stream as containerd's clients open it, whose Empty has been received. */
export class ClientStream {
  readonly id: string;
  readonly #outgoing: MessageQueue<Packed>;
  readonly #incoming: AsyncIterator<Any>;
  readonly #controller: AbortController;

  private constructor(
    id: string,
    outgoing: MessageQueue<Packed>,
    incoming: AsyncIterator<Any>,
    controller: AbortController,
  ) {
    this.id = id;
    this.#outgoing = outgoing;
    this.#incoming = incoming;
    this.#controller = controller;
  }

  static async open(transport: Transport, id: string, { namespace, lease }: StreamOptions = {}): Promise<ClientStream> {
    const outgoing = new MessageQueue<Packed>();
    outgoing.push(pack(StreamInitSchema, { id }));
    const controller = new AbortController();
    const messages = createClient(Streaming, transport).stream(outgoing, {
      ...(namespace === undefined ? {} : { headers: clientHeaders(namespace, lease) }),
      signal: controller.signal,
    });
    const incoming = messages[Symbol.asyncIterator]();
    const first = await incoming.next();
    if (first.done === true || first.value.typeUrl !== "google.protobuf.Empty" || first.value.value.length > 0) {
      throw new Error("the stream did not begin with Empty");
    }
    return new ClientStream(id, outgoing, incoming, controller);
  }

  send(message: Packed): void {
    this.#outgoing.push(message);
  }

  /** The next message; undefined when the daemon has closed the stream. */
  async receive(): Promise<Any | undefined> {
    const { done, value } = await this.#incoming.next();
    return done === true ? undefined : value;
  }

  /** Says that nothing more is sent, as a Go client's `Close` does. */
  closeSend(): void {
    this.#outgoing.end();
  }

  /** Breaks the call off. */
  cancel(): void {
    this.#controller.abort();
  }

  /** Sends bytes in pieces of at most 32 KiB as the daemon lets it, then closes. @returns the largest window that was open. */
  async sendBytes(bytes: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<number> {
    let window = 0;
    let windowMax = 0;
    for await (const piece of bytes) {
      for (let offset = 0; offset < piece.length; ) {
        while (window <= 0) {
          const message = await this.receive();
          if (message === undefined) {
            return windowMax;
          }
          window += unpack(WindowUpdateSchema, message).update;
          windowMax = Math.max(windowMax, window);
        }
        const data = piece.subarray(offset, offset + Math.min(32 * 1024, window));
        this.send(pack(DataSchema, { data }));
        offset += data.length;
        window -= data.length;
      }
    }
    this.closeSend();
    return windowMax;
  }

  /** Receives bytes until the daemon closes, with a window of 64 to 128 KiB, as a Go client does. */
  async *receiveBytes(): AsyncGenerator<Uint8Array> {
    let window = 0;
    for (;;) {
      if (window < 64 * 1024) {
        this.send(pack(WindowUpdateSchema, { update: 64 * 1024 }));
        window += 64 * 1024;
      }
      const message = await this.receive();
      if (message === undefined) {
        return;
      }
      const { data } = unpack(DataSchema, message);
      window -= data.length;
      yield data;
    }
  }
}
