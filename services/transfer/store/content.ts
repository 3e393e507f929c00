import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { type Digest, digestOf, splitDigest } from "#containerd/digest.ts";
import { manifestBytesMax } from "#containerd/image-manifest.ts";
import type { Labels } from "#containerd/labels.ts";
import { Content, type Info } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { ByteStream, ContentStore, Descriptor, Ingest, IngestRequest } from "../registry/ports.ts";
import { BlobWriter } from "./blob-writer.ts";
import { boundedCall, type Caller } from "./caller.ts";
import { ContentIngest, type IngestOptions } from "./content-ingest.ts";

/** Bytes read from a blob at a time. */
const pieceBytes = 256 * 1024;

/** The processes that together are the content store. */
export class ContentPeers {
  readonly bytes: Client<typeof Content>;
  readonly records: Client<typeof Content>;
  readonly files: Client<typeof Blobs>;

  constructor({ content, metadata }: { readonly content: RpcConnection; readonly metadata: RpcConnection }) {
    this.bytes = createClient(Content, content.transport);
    this.files = createClient(Blobs, content.transport);
    this.records = createClient(Content, metadata.transport);
  }
}

/** The content store as one transfer sees it. */
export class TransferContent implements ContentStore {
  readonly #peers: ContentPeers;
  readonly #caller: Caller;

  constructor(peers: ContentPeers, caller: Caller) {
    this.#peers = peers;
    this.#caller = caller;
  }

  openIngest(request: IngestRequest): Promise<Ingest> {
    return ContentIngest.open(this.#peers.bytes, this.#caller, request);
  }

  async findIngestOffset(ref: string, signal: AbortSignal): Promise<number | undefined> {
    const found = await ifThere(() => this.#peers.bytes.status({ ref }, boundedCall(this.#caller, signal)));
    return found?.status === undefined ? undefined : Number(found.status.offset);
  }

  async *read(
    digest: Digest,
    { offset, signal }: { readonly offset: number; readonly signal: AbortSignal },
  ): ByteStream {
    const { path } = await this.#locate(digest, signal);
    yield* createReadStream(path, { start: offset, highWaterMark: pieceBytes, signal });
  }

  async findLabels(digest: Digest, signal: AbortSignal): Promise<Labels | undefined> {
    return (await ifThere(() => this.#peers.records.info({ digest }, boundedCall(this.#caller, signal))))?.info?.labels;
  }

  /** Sets labels of a blob and leaves its others. @throws {@link FlotillaError} `not_found` when there is no such blob. */
  async setLabels(digest: Digest, labels: Labels, signal: AbortSignal): Promise<void> {
    const paths = Object.keys(labels).map((key) => `labels.${key}`);
    if (paths.length > 0) {
      const info = { digest, labels: { ...labels } };
      await this.#peers.records.update({ info, updateMask: { paths } }, boundedCall(this.#caller, signal));
    }
  }

  /** The blobs of which a filter in containerd's language is true. */
  async find(filters: readonly string[], signal: AbortSignal): Promise<Info[]> {
    const found: Info[] = [];
    for await (const { info } of this.#peers.records.list(
      { filters: [...filters] },
      boundedCall(this.#caller, signal),
    )) {
      found.push(...info);
    }
    return found;
  }

  /**
   * Reads a manifest, an index or a configuration whole.
   *
   * @throws {@link FlotillaError} `not_found` when there is no such blob, `resource_exhausted` when it is too large for what it is
   *   said to be.
   */
  async readDocument(descriptor: Descriptor, signal: AbortSignal): Promise<Uint8Array> {
    const embedded = embeddedBytes(descriptor);
    if (embedded !== undefined) {
      return embedded;
    }
    const { path, size } = await this.#locate(descriptor.digest, signal);
    if (size > manifestBytesMax) {
      throw failure(ErrorKind.ResourceExhausted, `${descriptor.digest} is larger than ${manifestBytesMax} bytes`);
    }
    return await readFile(path, { signal });
  }

  /**
   * Opens a blob for writing from its beginning; what an ingest of that ref has is thrown away.
   *
   * @returns undefined when the expected blob is there, which the lease holds then.
   */
  async openWriter(options: IngestOptions): Promise<BlobWriter | undefined> {
    let ingest: ContentIngest;
    try {
      ingest = await ContentIngest.openInTurn(this.#peers.bytes, this.#caller, options);
    } catch (error) {
      if (isFailure(error, ErrorKind.AlreadyExists)) {
        return undefined;
      }
      throw error;
    }
    const writer = new BlobWriter(ingest, () => this.abort(options.ref));
    if (ingest.offset > 0) {
      try {
        await ingest.truncate();
      } catch (error) {
        await writer.discard();
        throw error;
      }
    }
    return writer;
  }

  /** Adds a blob to the lease, so that it stays. @returns false when it is not there. */
  async hold(digest: Digest, signal: AbortSignal): Promise<boolean> {
    const writer = await this.openWriter({ ref: `hold-${digest}`, expected: digest, totalBytes: 0, signal });
    await writer?.discard();
    return writer === undefined;
  }

  /**
   * Writes a small blob whose digest is known.
   *
   * @throws {@link FlotillaError} `failed_precondition` when the bytes are not those of the digest.
   */
  async write(options: IngestOptions, bytes: Uint8Array, labels: Labels = {}): Promise<void> {
    const writer = await this.openWriter(options);
    if (writer === undefined) {
      return;
    }
    try {
      await writer.append(bytes);
      await writer.commit(labels);
    } catch (error) {
      await writer.discard();
      throw error;
    }
  }

  /** Removes an ingest, if there is one. Does not fail: the lease takes with it what stays. */
  async abort(ref: string): Promise<void> {
    await this.#peers.bytes.abort({ ref }, boundedCall(this.#caller)).catch(() => undefined);
  }

  async #locate(digest: Digest, signal: AbortSignal): Promise<{ readonly path: string; readonly size: number }> {
    const { namespace } = this.#caller;
    const { path, size } = await this.#peers.files.openBlob({ namespace, digest }, boundedCall(this.#caller, signal));
    return { path, size: Number(size) };
  }
}

/** What a descriptor carries with it, if that is what it says. @source containerd v2.3.4 core/content/helpers.go `useDescriptorData` */
function embeddedBytes({ data, size, digest }: Descriptor): Uint8Array | undefined {
  if (data === undefined) {
    return undefined;
  }
  const bytes = Buffer.from(data, "base64");
  const { algorithm } = splitDigest(digest);
  return bytes.length === size && digestOf(bytes, algorithm) === digest ? bytes : undefined;
}

async function ifThere<T>(call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return undefined;
    }
    throw error;
  }
}
