import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import { type Digest, isDigest, splitDigest } from "#containerd/digest.ts";
import { ContentWrite } from "#fleet/peers/content-write.ts";
import type { ProxyLink } from "#fleet/proxies/proxy-link.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { BlobFiles, BlobReader, IngestFile } from "../domain/ports.ts";
import type { BlobDirectories } from "../files/blob-directories.ts";
import { ensureDirectory } from "../files/directory.ts";
import { diskFailure } from "../files/disk-failure.ts";
import type { ContentLayout } from "../files/layout.ts";
import type { CopyBudget } from "./copy-budget.ts";

/** A store that is one space for all still may ask for a namespace. */
const namespace = "default";
const options = { headers: clientHeaders(namespace) };
const chunkBytes = 1024 * 1024;
const directoryMode = 0o755;
const blobMode = 0o444;

/**
 * Blobs in a content store that is somebody else's. It has every blob, and says which there are. What is read or written here lies in a directory
 * of ours as well, since the processes of the fleet read blobs as files; such a copy goes with its blob, or when copies take more than they may, and comes back
 * when it is wanted.
 *
 * @source containerd v2.3.4 core/content/proxy/content_store.go
 */
export class ProxiedBlobs implements BlobFiles {
  readonly #copies: BlobDirectories;
  readonly #layout: ContentLayout;
  readonly #link: ProxyLink;
  readonly #budget: CopyBudget;
  readonly #client: Client<typeof Content>;
  readonly #bringing = new KeyedLock<Digest>();

  /**
   * @param copies - The blobs below `layout`.
   * @param budget - Which of them may stay.
   */
  constructor(copies: BlobDirectories, layout: ContentLayout, link: ProxyLink, budget: CopyBudget) {
    this.#copies = copies;
    this.#layout = layout;
    this.#link = link;
    this.#budget = budget;
    this.#client = createClient(Content, link.transport);
  }

  /** Looks which copies there are, and gives up those that are too many. @throws The error of `node:fs`. */
  async takeStock(): Promise<void> {
    const found = await Promise.all(
      (await this.#copies.list()).map(async (digest) => ({ digest, facts: await stat(this.path(digest)) })),
    );
    for (const { digest, facts } of found.toSorted((one, other) => one.facts.atimeMs - other.facts.atimeMs)) {
      this.#budget.found(digest, facts.size);
    }
    await this.#giveUp(this.#budget.surplus());
  }

  path(digest: Digest): string {
    return this.#copies.path(digest);
  }

  async findSizeBytes(digest: Digest): Promise<bigint | undefined> {
    try {
      return (await this.#client.info({ digest }, options)).info?.size;
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        return undefined;
      }
      throw error;
    }
  }

  async place(ingest: IngestFile, digest: Digest): Promise<boolean> {
    const moved = await this.#copies.place(ingest, digest);
    try {
      await this.#send(digest, Number(ingest.offsetBytes));
    } catch (error) {
      if (moved) {
        await this.#copies.giveBack(ingest, digest);
      }
      throw error;
    }
    this.#budget.used(digest, Number(ingest.offsetBytes));
    await this.#giveUp(this.#budget.surplus());
    return moved;
  }

  giveBack(ingest: IngestFile, digest: Digest): Promise<void> {
    // What the store has got no record names, so that the index has it removed.
    return this.#copies.giveBack(ingest, digest);
  }

  async remove(digest: Digest): Promise<void> {
    if (this.#link.isStuck) {
      throw failure(ErrorKind.Unavailable, `the content store does not answer, so that ${digest} stays for now`);
    }
    try {
      await this.#client.delete({ digest }, options);
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        throw error;
      }
    }
    await this.#copies.remove(digest);
    this.#budget.forget(digest);
  }

  async list(): Promise<Digest[]> {
    const digests: Digest[] = [];
    for await (const { info } of this.#client.list({}, options)) {
      digests.push(...info.map(({ digest }) => digest).filter(isDigest));
    }
    return digests;
  }

  async open(digest: Digest): Promise<BlobReader> {
    await this.bring(digest);
    return await this.#copies.open(digest);
  }

  readAtOnce(digest: Digest, buffer: Uint8Array, positionBytes: bigint): number | undefined {
    try {
      return this.#copies.readAtOnce(digest, buffer, positionBytes);
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        return undefined;
      }
      throw error;
    }
  }

  /**
   * Makes a copy of a blob unless there is one. Bytes that are not what the digest says never get its name.
   *
   * @throws {@link FlotillaError} `resource_exhausted` when the disk is full, even without the copies that nobody uses now.
   */
  async bring(digest: Digest): Promise<void> {
    await this.#bringing.run([digest], async () => {
      const sizeBytes = (await this.#copies.findSizeBytes(digest)) ?? (await this.#fetchInRoom(digest));
      this.#budget.used(digest, Number(sizeBytes));
    });
    await this.#giveUp(this.#budget.surplus());
  }

  async #fetchInRoom(digest: Digest): Promise<number> {
    try {
      return await this.#fetch(digest);
    } catch (error) {
      const unused = isFailure(error, ErrorKind.ResourceExhausted) ? this.#budget.surplus(0) : [];
      if (unused.length === 0) {
        throw error;
      }
      await this.#giveUp(unused);
      return await this.#fetch(digest);
    }
  }

  async #giveUp(digests: readonly Digest[]): Promise<void> {
    for (const digest of digests) {
      await this.#bringing.run([digest], async () => {
        // Somebody may have wanted it meanwhile.
        if (this.#budget.isRested(digest)) {
          this.#budget.forget(digest);
          await this.#copies.remove(digest);
        }
      });
    }
  }

  /** @returns The size. */
  async #fetch(digest: Digest): Promise<number> {
    const { algorithm, encoded } = splitDigest(digest);
    const directory = this.#layout.blobDirectory(digest);
    const partial = `${this.#layout.ingests}/bringing-${algorithm}-${encoded}`;
    await ensureDirectory(directory, directoryMode);
    const hash = createHash(algorithm);
    let sizeBytes = 0;
    try {
      await using file = await open(partial, "w", blobMode);
      for await (const { data } of this.#client.read({ digest }, options)) {
        hash.update(data);
        await file.writeFile(data);
        sizeBytes += data.length;
      }
      await file.datasync();
      if (hash.digest("hex") !== encoded) {
        throw failure(ErrorKind.DataLoss, `the content store has other bytes than ${digest}`);
      }
      await rename(partial, this.path(digest));
      return sizeBytes;
    } catch (error) {
      await rm(partial, { force: true });
      throw diskFailure(error, `bring blob ${digest}`);
    }
  }

  async #send(digest: Digest, sizeBytes: number): Promise<void> {
    const ref = `flotilla-${digest}`;
    const write = new ContentWrite(this.#client, { namespace, lease: "", ref, signal: new AbortController().signal });
    const expected = { digest, totalBytes: sizeBytes };
    try {
      await write.stat(expected);
      if (write.offset > 0n) {
        await write.truncate();
      }
      for await (const chunk of createReadStream(this.path(digest), { highWaterMark: chunkBytes })) {
        await write.append(chunk as Buffer);
      }
      await write.commit(expected, {});
    } catch (error) {
      if (!isFailure(error, ErrorKind.AlreadyExists)) {
        throw error;
      }
    } finally {
      await write.close();
    }
  }
}
