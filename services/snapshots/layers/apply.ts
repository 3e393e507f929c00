import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { toByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, succeed, syncFileSystem, workingDirectory } from "#linux/file.ts";
import { TarReader } from "#tar/tar-reader.ts";
import { decompress } from "./compression.ts";
import { type ExtractionTarget, Extractor } from "./extractor.ts";
import type { ProcessorStep } from "./media-type.ts";

/** A layer to apply and where to. Made of plain data, so that it can go to another thread. */
export interface ApplyJob {
  /** File of the blob. */
  readonly blobPath: string;
  /** From {@link planProcessors}. */
  readonly steps: readonly ProcessorStep[];
  /** Encoded messages for programs, by their id. */
  readonly payloads: ReadonlyMap<string, Uint8Array>;
  readonly target: ExtractionTarget;
  /** Write out the file system before success is told. */
  readonly syncFileSystem: boolean;
}

/** The uncompressed layer that was applied. */
export interface AppliedLayer {
  /** Of the uncompressed stream to its last byte, padding after the archive included. */
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Bytes of a blob that are read at a time. */
const readBytes = 512 * 1024;

/**
 * Applies a layer to a directory tree.
 *
 * To be called on a thread of its own with a umask of 0: between two pieces of the layer it makes system calls without a
 * pause. Reading and decompression go on meanwhile on other threads. After a failure the tree has a part of the layer.
 *
 * @throws {@link FlotillaError}
 * @source containerd v2.3.4 core/diff/apply/apply.go `(*fsApplier).Apply`
 */
export async function applyLayer(job: ApplyJob, signal: AbortSignal): Promise<AppliedLayer> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const extractor = new Extractor(job.target);
  try {
    const reader = new TarReader(extractor);
    for await (const chunk of openLayer(job, signal)) {
      signal.throwIfAborted();
      hash.update(chunk);
      sizeBytes += chunk.length;
      reader.write(chunk);
    }
    reader.end();
    extractor.complete();
  } finally {
    extractor.close();
  }
  if (job.syncFileSystem) {
    writeOut(job.target.root);
  }
  return { digest: `sha256:${hash.digest("hex")}`, sizeBytes };
}

/** The uncompressed bytes of a layer. */
async function* openLayer({ blobPath, steps, payloads }: ApplyJob, signal: AbortSignal): AsyncGenerator<Buffer> {
  let stream: AsyncIterable<Buffer> = createReadStream(blobPath, { highWaterMark: readBytes, signal });
  for (const step of steps) {
    if (step.kind === "decompress") {
      stream = decompress(stream);
    } else {
      const { processStream } = await import("./stream-processor.ts");
      stream = processStream(stream, { ...step, payload: payloads.get(step.id), signal });
    }
  }
  yield* stream;
}

function writeOut(root: string): void {
  const descriptor = succeed(
    openAt(workingDirectory, toByteString(root), OpenFlag.ReadOnly | OpenFlag.Directory),
    () => `failed to open ${root}`,
  );
  try {
    succeed(syncFileSystem(descriptor), () => `failed to syncfs for ${root}`);
  } finally {
    closeFile(descriptor);
  }
}
