import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { ErrorKind, failure } from "#base/errors.ts";
import { DataSchema, WindowUpdateSchema } from "#gen/containerd/types/transfer/streaming_pb.ts";
import { EncodedResponse } from "#wire/handler.ts";
import { anyHead, packMessage, unpackMessage } from "./any.ts";
import type { Stream } from "./stream.ts";

/** Most bytes in one message. @source containerd v2.3.4 core/transfer/streaming/stream.go `maxRead` */
const dataBytesMax = 32 * 1024;
/** What one WindowUpdate adds. @source containerd v2.3.4 core/transfer/streaming/stream.go `windowSize` */
const windowUpdateBytes = 2 * dataBytesMax;
/** How much a client may send ahead: more than containerd's 128 KiB, so that the way there and back is not waited for. */
const receiveWindowBytes = 8 * windowUpdateBytes;
/** How long the end of what was sent waits for the client to take it. */
const settleMsMax = 2_000;

/**
 * The bytes that a client sends on a stream, until it says that it sends no more.
 *
 * Asks for more as they are taken. Does not close the stream. Pieces are good until the next is asked for.
 *
 * @throws {@link FlotillaError} `unknown` when something else than `Data` comes; what broke the call when the client goes away.
 * @source containerd v2.3.4 core/transfer/streaming/stream.go `ReceiveStream`
 */
export async function* receiveBytes(stream: Stream): AsyncGenerator<Uint8Array> {
  let windowBytes = 0;
  for (;;) {
    while (windowBytes <= receiveWindowBytes - windowUpdateBytes) {
      await stream.send(packMessage(WindowUpdateSchema, { update: windowUpdateBytes }));
      windowBytes += windowUpdateBytes;
    }
    const message = await stream.receive();
    if (message === undefined) {
      return;
    }
    const { data } = unpackMessage(DataSchema, message);
    windowBytes -= data.length;
    if (windowBytes < 0) {
      throw failure(ErrorKind.InvalidArgument, `the client sent ${-windowBytes} bytes more than it was let`);
    }
    if (data.length > 0) {
      yield data;
    }
  }
}

/**
 * Sends bytes to a client on a stream, as it lets them come.
 *
 * @source containerd v2.3.4 core/transfer/streaming/writer.go `WriteByteStream`
 */
export class ByteSender {
  readonly #stream: Stream;
  readonly #onSent: (bytes: number) => void;
  #windowBytes = 0;
  #failure: Error | undefined;
  #onWindow: (() => void) | undefined;

  /**
   * @param stream - Nobody else receives from it from now on.
   * @param onSent - Is told of bytes that are on their way.
   */
  constructor(stream: Stream, onSent: (bytes: number) => void = () => undefined) {
    this.#stream = stream;
    this.#onSent = onSent;
    this.#readWindows().then(
      () => this.#fail(failure(ErrorKind.Unavailable, "the client takes no more of the stream")),
      (error: unknown) => this.#fail(error instanceof Error ? error : new Error(String(error))),
    );
  }

  /**
   * Resolves when all is on its way.
   *
   * @param bytes - Sent from where they are, so that nobody may change them from now on.
   * @throws {@link FlotillaError} when the client has gone away or has ended its side.
   */
  async write(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; ) {
      await this.#windowOver(0);
      const length = Math.min(bytes.length - offset, dataBytesMax, this.#windowBytes);
      const data = bytes.subarray(offset, offset + length);
      await this.#stream.send(dataMessage(data));
      this.#windowBytes -= length;
      this.#onSent(length);
      offset += length;
    }
  }

  /**
   * Waits, not for long, until the client has asked for as much as one does that has taken nearly everything. Clients of containerd
   * look at the end of the call that sends and not at the end of the stream, and lose what they have not taken by then.
   */
  async settle(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, settleMsMax);
    });
    await Promise.race([this.#windowOver(windowUpdateBytes - 1).catch(() => undefined), late]);
    clearTimeout(timer);
  }

  async #windowOver(bytes: number): Promise<void> {
    while (this.#windowBytes <= bytes) {
      if (this.#failure !== undefined) {
        throw this.#failure;
      }
      await new Promise<void>((resolve) => {
        this.#onWindow = resolve;
      });
    }
  }

  async #readWindows(): Promise<void> {
    for (;;) {
      const message = await this.#stream.receive();
      if (message === undefined) {
        return;
      }
      this.#windowBytes += unpackMessage(WindowUpdateSchema, message).update;
      this.#onWindow?.();
    }
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.#onWindow?.();
  }
}

/** A `Data` around bytes that are not copied: copies of a whole image would keep the garbage collector busy. */
function dataMessage(data: Uint8Array): EncodedResponse {
  const head = new BinaryWriter()
    .tag(DataSchema.field.data.number, WireType.LengthDelimited)
    .uint32(data.byteLength)
    .finish();
  return new EncodedResponse(anyHead(DataSchema, head.byteLength + data.byteLength), head, data);
}
