import { createReadStream } from "node:fs";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { Transfer } from "#gen/containerd/services/transfer/v1/transfer_pb.ts";
import { ImageStoreSchema } from "#gen/containerd/types/transfer/imagestore_pb.ts";
import { ImageExportStreamSchema, ImageImportStreamSchema } from "#gen/containerd/types/transfer/importexport_pb.ts";
import { type Progress, ProgressSchema } from "#gen/containerd/types/transfer/progress_pb.ts";
import { OCIRegistrySchema } from "#gen/containerd/types/transfer/registry_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { ClientStream, type Packed, pack, unpack } from "./stream-client.ts";

export type StoreInit = MessageInitShape<typeof ImageStoreSchema>;
type ExportInit = MessageInitShape<typeof ImageExportStreamSchema>;

/** What a transfer has told, and what it was. */
export interface TransferOutcome {
  readonly events: readonly Progress[];
}

/** Streams that this process has opened. containerd keeps the ids of streams whose client has gone. */
let streamCount = 0;

/** Does with images what clients of containerd 2 do: by streams and the Transfer service. */
export class TransferClient {
  readonly #transport: Transport;
  readonly #namespace: string;

  constructor(transport: Transport, namespace: string) {
    this.#transport = transport;
    this.#namespace = namespace;
  }

  /** Pulls by plain HTTP. The name of the store is that of the reference unless given. */
  pull(reference: string, store: StoreInit = {}, signal?: AbortSignal): Promise<TransferOutcome> {
    return this.#run(registry(reference), pack(ImageStoreSchema, { name: reference, ...store }), signal);
  }

  push(name: string, reference: string, store: StoreInit = {}): Promise<TransferOutcome> {
    return this.#run(pack(ImageStoreSchema, { name, ...store }), registry(reference));
  }

  tag(from: string, to: string): Promise<TransferOutcome> {
    return this.#run(pack(ImageStoreSchema, { name: from }), pack(ImageStoreSchema, { name: to }));
  }

  /** @param source - Path of an archive, or its bytes. */
  async import(
    source: string | Uint8Array | AsyncIterable<Uint8Array>,
    store: StoreInit,
    { forceCompress = false, signal }: { readonly forceCompress?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<TransferOutcome> {
    const stream = await this.#open("import");
    const bytes =
      typeof source === "string" ? createReadStream(source) : source instanceof Uint8Array ? [source] : source;
    // The daemon ends it when it has had enough.
    const sending = stream.sendBytes(bytes as AsyncIterable<Uint8Array>).catch(() => 0);
    const archive = pack(ImageImportStreamSchema, { stream: stream.id, forceCompress });
    try {
      return await this.#run(archive, pack(ImageStoreSchema, store), signal);
    } finally {
      stream.cancel();
      await sending;
    }
  }

  async export(names: readonly string[], options: ExportInit = {}): Promise<Buffer> {
    const stream = await this.#open("export");
    const pieces: Uint8Array[] = [];
    const sent = new AbortController();
    const receiving = collect(stream.receiveBytes(), pieces, sent.signal);
    receiving.catch(() => undefined);
    const extraReferences = names.map((name) => ({ name }));
    await this.#run(
      pack(ImageStoreSchema, { extraReferences }),
      pack(ImageExportStreamSchema, { ...options, stream: stream.id }),
    );
    sent.abort();
    const isWhole = (): boolean => Buffer.concat(pieces.slice(-2)).subarray(-archiveEnd.length).equals(archiveEnd);
    await (isWhole() ? undefined : receiving);
    stream.cancel();
    return Buffer.concat(pieces);
  }

  async #run(source: Packed, destination: Packed, signal?: AbortSignal): Promise<TransferOutcome> {
    const progress = await this.#open("progress");
    const events: Progress[] = [];
    // As containerd's client, a transfer goes on without its progress when that stream breaks.
    const told = collectEvents(progress, events).catch(() => undefined);
    try {
      await createClient(Transfer, this.#transport).transfer(
        { source, destination, options: { progressStream: progress.id } },
        { headers: clientHeaders(this.#namespace), ...(signal === undefined ? {} : { signal }) },
      );
    } catch (error) {
      progress.cancel();
      throw error;
    }
    await told;
    return { events };
  }

  #open(what: string): Promise<ClientStream> {
    streamCount += 1;
    return ClientStream.open(this.#transport, `${what}-${process.pid}-${streamCount}`, { namespace: this.#namespace });
  }
}

function registry(reference: string): Packed {
  return pack(OCIRegistrySchema, { reference, resolver: { defaultScheme: "http" } });
}

/** Two blocks of zeros end an archive. */
const archiveEnd = Buffer.alloc(1024);

/** Collects pieces until they end. containerd leaves the stream open: once all is sent, until they end as an archive does. */
async function collect(bytes: AsyncIterable<Uint8Array>, pieces: Uint8Array[], sent: AbortSignal): Promise<void> {
  let end = Buffer.alloc(0);
  for await (const piece of bytes) {
    pieces.push(piece);
    end = Buffer.concat([end, piece]).subarray(-archiveEnd.length);
    if (sent.aborted && end.equals(archiveEnd)) {
      return;
    }
  }
}

async function collectEvents(stream: ClientStream, events: Progress[]): Promise<void> {
  for (let message = await stream.receive(); message !== undefined; message = await stream.receive()) {
    events.push(unpack(ProgressSchema, message));
  }
}
