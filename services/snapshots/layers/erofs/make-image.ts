import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path/posix";
import type { Writable } from "node:stream";
import { syncDirectory } from "#base/durable-file.ts";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { metadataPath } from "../../verity/metadata.ts";
import { protectImage } from "../../verity/protect-image.ts";
import { type AppliedLayer, type ApplyJob, openLayer } from "../apply.ts";
import { BlobSource } from "../blob-source.ts";
import { checkRatio } from "../layer-limits.ts";
import { mkfsEnvironment } from "./mkfs.ts";

/** A blob that becomes the image of a layer. Made of plain data, so that it can go to another thread. */
export interface ImageJob extends Pick<ApplyJob, "blobPath" | "blobBytes" | "steps" | "payloads" | "limits"> {
  /** Where the image goes; what is there is replaced. */
  readonly image: string;
  /** What the bytes are: an image already, or an archive, of which one is made, or which stays as it is behind an index. */
  readonly form: "image" | "archive" | "indexed-archive";
  /** For mkfs.erofs. */
  readonly options: readonly string[];
  /** Whether it gets the hashes by which dm-verity checks it. */
  readonly isProtected: boolean;
}

const imageBlockBytes = 4096;
const archiveBlockBytes = 512;

/** What mkfs.erofs may say before the rest is dropped. */
const saidBytesMax = 64 * 1024;

/**
 * Makes the image of a layer of its blob. It is on disk, and there whole or not at all.
 *
 * @throws {@link FlotillaError} `failed_precondition` when the blob has another size; `resource_exhausted` for one beyond the
 *   limits; `unknown` with what mkfs.erofs says.
 * @source containerd v2.3.4 plugins/diff/erofs/differ.go `Apply`, internal/erofsutils/mount.go
 */
export async function makeImage(
  job: ImageJob,
  signal: AbortSignal,
  onProgress: (usedBytes: number) => void,
): Promise<AppliedLayer> {
  const half = `${job.image}.new`;
  const archive = `${job.image}.tar`;
  try {
    await rm(half, { force: true });
    const counted = await fill({ job, half, archive }, signal, onProgress);
    await using written = await open(half, "r+");
    if (job.form === "indexed-archive") {
      await append(archive, half);
    }
    await protect(job, half, signal);
    await written.sync();
    await rename(half, job.image);
    await syncDirectory(dirname(job.image));
    return counted;
  } finally {
    await rm(half, { force: true });
    await rm(archive, { force: true });
  }
}

/** The metadata come first: who sees the image must not take it for one that nothing checks. */
async function protect({ image, isProtected, form }: ImageJob, half: string, signal: AbortSignal): Promise<void> {
  if (isProtected) {
    // An index of an archive is made of blocks of 512 bytes, and no device may have larger ones than what is mounted of it.
    const blockBytes = form === "indexed-archive" ? archiveBlockBytes : imageBlockBytes;
    try {
      await protectImage(half, { blockBytes, metadata: metadataPath(image) }, signal);
    } catch (error) {
      throw wrapFailure(error, "failed to format dm-verity layer");
    }
  } else {
    await rm(metadataPath(image), { force: true });
  }
}

interface Places {
  readonly job: ImageJob;
  /** The image until it is whole. */
  readonly half: string;
  /** The archive until it stands behind its index. */
  readonly archive: string;
}

/** Passes every byte on, to the last one after the archive, and counts and hashes it. */
async function fill(
  { job, half, archive }: Places,
  signal: AbortSignal,
  onProgress: (usedBytes: number) => void,
): Promise<AppliedLayer> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  await using source = await BlobSource.open(job.blobPath, job.blobBytes);
  await using resources = new AsyncDisposableStack();
  const openFile = async (path: string): Promise<FileHandle> => resources.use(await open(path, "w", 0o644));
  const file = job.form === "archive" ? undefined : await openFile(job.form === "image" ? half : archive);
  const program = job.form === "image" ? undefined : resources.use(new Mkfs(job, half));
  for await (const chunk of openLayer(job, source, signal)) {
    signal.throwIfAborted();
    hash.update(chunk);
    sizeBytes += chunk.length;
    checkRatio(job.limits, sizeBytes, source.usedBytes);
    await file?.writeFile(chunk);
    await program?.write(chunk);
    onProgress(source.usedBytes);
  }
  await program?.end();
  return { digest: `sha256:${hash.digest("hex")}`, sizeBytes, usedBytes: source.usedBytes, implied: [] };
}

/** mkfs.erofs, which reads an archive from its standard input. */
class Mkfs implements AsyncDisposable {
  readonly #child;
  readonly #ended: Promise<string | undefined>;
  readonly #input: Writable;
  readonly #form: ImageJob["form"];
  readonly #line: string;
  #said = "";
  #isReading = true;

  constructor({ form, options }: ImageJob, image: string) {
    const shape =
      form === "archive" ? ["--tar=f", "--aufs", "--quiet", "-Enoinline_data"] : ["--tar=i", "--aufs", "--quiet"];
    const args = [...shape, ...options, image];
    this.#form = form;
    this.#line = `mkfs.erofs ${args.join(" ")}`;
    this.#child = spawn("mkfs.erofs", args, { env: mkfsEnvironment(), stdio: ["pipe", "pipe", "pipe"] });
    this.#input = this.#child.stdin;
    // It need not read what comes after the archive.
    this.#input.on("error", () => {
      this.#isReading = false;
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.on("data", (text: Buffer) => {
        this.#said = `${this.#said}${text.toString()}`.slice(0, saidBytesMax);
      });
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(error.message));
      this.#child.once("close", (code, killer) => {
        this.#isReading = false;
        resolve(code === 0 ? undefined : code === null ? `signal: ${killer}` : `exit status ${code}`);
      });
    });
  }

  /** Resolves when the bytes are not needed any more. */
  async write(chunk: Buffer): Promise<void> {
    if (this.#isReading) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#input.write(chunk, () => resolve());
      await Promise.race([promise, this.#ended]);
    }
  }

  /** @throws {@link FlotillaError} when it has failed. */
  async end(): Promise<void> {
    this.#input.end();
    const reason = await this.#ended;
    if (reason === undefined) {
      return;
    }
    const text =
      this.#form === "archive"
        ? `failed to convert tar to erofs: erofs apply failed: ${this.#said}: ${reason}`
        : `failed to generate tar index: tar index generation failed with command '${this.#line}': ${this.#said}: ${reason}`;
    throw new FlotillaError(ErrorKind.Unknown, text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}

/** Puts a file behind another one. */
async function append(archive: string, image: string): Promise<void> {
  await using from = await open(archive, "r");
  await using to = await open(image, "a");
  await to.writeFile(from.createReadStream());
}
