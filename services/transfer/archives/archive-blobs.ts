import { posix } from "node:path";
import { ErrorKind, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type Digest, isDigest } from "#containerd/digest.ts";
import { fromByteString } from "#linux/bytes.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";
import type { BlobWriter } from "../store/blob-writer.ts";
import type { TransferContent } from "../store/content.ts";
import { type MemberHandler, readMembers } from "./archive-members.ts";

/** Largest JSON file that is read. @source containerd v2.3.4 core/images/archive/importer.go `jsonLimit` */
const jsonBytesMax = 20 * 1024 * 1024;
/** Most files in an archive. */
const filesMax = 100_000;

/** A file of an archive that has become a blob. */
export interface ArchivedBlob {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
}

/** What an archive had in it. */
export interface ArchiveContents {
  /** `oci-layout`; undefined when there was none. */
  readonly layout: unknown;
  /** `manifest.json`; undefined when there was none. */
  readonly dockerManifest: unknown;
  /** All other regular files, by their clean paths. */
  readonly blobs: ReadonlyMap<string, ArchivedBlob>;
  /** Symbolic links by their names, with what they lead to. */
  readonly links: ReadonlyMap<string, string>;
}

/**
 * Puts every file of an archive into the content store and reads the two that say what it is.
 *
 * A file that lies where an OCI layout keeps blobs must be the blob of its name, and is passed over when the store has it.
 *
 * @throws {@link FlotillaError} `unknown` for what is no archive or no JSON, `failed_precondition` when a file is another blob than its
 *   name says, `resource_exhausted` when there are too many files.
 * @source containerd v2.3.4 core/images/archive/importer.go `ImportIndex`
 */
export async function readArchive(
  content: TransferContent,
  bytes: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<ArchiveContents> {
  const reading = new ArchiveReading(content, signal);
  try {
    await readMembers(bytes, reading);
  } catch (error) {
    await reading.discard();
    throw error;
  }
  return reading;
}

class ArchiveReading implements ArchiveContents, MemberHandler {
  layout: unknown;
  dockerManifest: unknown;
  readonly blobs = new Map<string, ArchivedBlob>();
  readonly links = new Map<string, string>();
  readonly #content: TransferContent;
  readonly #signal: AbortSignal;
  #name = "";
  #size = 0;
  #json: Buffer[] | undefined;
  #jsonBytes = 0;
  #expected: Digest | undefined;
  #writer: BlobWriter | undefined;

  constructor(content: TransferContent, signal: AbortSignal) {
    this.#content = content;
    this.#signal = signal;
  }

  async begin({ type, name: rawName, linkName, sizeBytes }: TarMember): Promise<void> {
    const name = fromByteString(rawName);
    if (this.blobs.size + this.links.size >= filesMax) {
      throw failure(ErrorKind.ResourceExhausted, `the archive has more than ${filesMax} files`);
    }
    if (type === MemberType.Symlink) {
      this.links.set(name, posix.join(posix.dirname(name), fromByteString(linkName)));
    }
    if (type !== MemberType.Regular) {
      return;
    }
    this.#name = posix.normalize(name);
    this.#size = sizeBytes;
    this.#json = undefined;
    if (this.#name === "oci-layout" || this.#name === "manifest.json") {
      this.#json = [];
      this.#jsonBytes = 0;
      return;
    }
    this.#expected = digestOfPath(this.#name);
    await this.#ingest(async () => {
      this.#writer = await this.#content.openWriter({
        ref: `tar-${this.#name}`,
        totalBytes: sizeBytes,
        signal: this.#signal,
        ...(this.#expected === undefined ? {} : { expected: this.#expected }),
      });
    });
  }

  async content(data: Uint8Array): Promise<void> {
    if (this.#json === undefined) {
      await this.#ingest(() => this.#writer?.append(data));
      return;
    }
    this.#jsonBytes += data.length;
    if (this.#jsonBytes > jsonBytesMax) {
      throw failure(ErrorKind.ResourceExhausted, `${this.#name} is larger than ${jsonBytesMax} bytes`);
    }
    this.#json.push(Buffer.from(data));
  }

  async finish(): Promise<void> {
    if (this.#json !== undefined) {
      const value = parseJson(this.#name, Buffer.concat(this.#json));
      this.#json = undefined;
      if (this.#name === "oci-layout") {
        this.layout = value;
      } else {
        this.dockerManifest = value;
      }
      return;
    }
    await this.#ingest(async () => {
      const digest = (await this.#writer?.commit()) ?? this.#expected;
      this.#writer = undefined;
      if (digest !== undefined) {
        this.blobs.set(this.#name, { digest, size: this.#size });
      }
    });
  }

  /** Throws away what is not complete. */
  async discard(): Promise<void> {
    await this.#writer?.discard();
  }

  async #ingest(step: () => Promise<void> | undefined): Promise<void> {
    try {
      await step();
    } catch (error) {
      throw wrapFailure(error, `failed to ingest ${quote(this.#name)}`);
    }
  }
}

/** The digest that a path in an OCI layout stands for. */
function digestOfPath(path: string): Digest | undefined {
  const [, algorithm, encoded] = /^blobs\/([a-z0-9]+)\/([a-f0-9]+)$/.exec(path) ?? [];
  const digest = `${algorithm}:${encoded}`;
  return isDigest(digest) ? digest : undefined;
}

function parseJson(name: string, bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (error) {
    const what = name === "oci-layout" ? "oci layout" : "manifest";
    throw new FlotillaError(ErrorKind.Unknown, `untar ${what} ${quote(name)}: it is no JSON`, { cause: error });
  }
}
