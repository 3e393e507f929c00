import { createHash } from "node:crypto";
import type { ByteString } from "#linux/bytes.ts";
import { TarReader } from "#tar/tar-reader.ts";
import type { MeasuredDirectory } from "../drivers/usage.ts";
import { measureTree } from "../trees/measure-tree.ts";
import { BlobSource } from "./blob-source.ts";
import { decompress } from "./compression.ts";
import { type ExtractionTarget, Extractor } from "./extractor.ts";
import { findGzipProgram } from "./gzip-program.ts";
import { checkRatio, type LayerLimits, LimitedSink } from "./layer-limits.ts";
import type { ProcessorStep } from "./media-type.ts";
import { writeOut } from "./write-out.ts";

/** A layer to apply and where to. Made of plain data, so that it can go to another thread. */
export interface ApplyJob {
  /** File of the blob. */
  readonly blobPath: string;
  /** The size that it has to have; 0 when unknown. */
  readonly blobBytes: number;
  /** From {@link planProcessors}. */
  readonly steps: readonly ProcessorStep[];
  /** Encoded messages for programs, by their id. */
  readonly payloads: ReadonlyMap<string, Uint8Array>;
  readonly target: ExtractionTarget;
  /** Write out the file system before success is told. */
  readonly syncFileSystem: boolean;
  /** Count what the directory has in the end, on this thread, which has it all at hand. Left out where directories are implied. */
  readonly measures: boolean;
  readonly limits: LayerLimits;
}

/** The uncompressed layer that was applied. */
export interface AppliedLayer {
  /** Of the uncompressed stream to its last byte, padding after the archive included. */
  readonly digest: string;
  readonly sizeBytes: number;
  /** Of the blob. */
  readonly usedBytes: number;
  /** See {@link Extractor.implied}. */
  readonly implied: readonly ByteString[];
  /** What was counted, if that was wanted and is not to change any more. */
  readonly measured?: MeasuredDirectory;
}

/** How often progress is told, at most. */
const progressMs = 250;

/**
 * Applies a layer to a directory tree.
 *
 * To be called on a thread of its own with a umask of 0: between two pieces of the layer it makes system calls without a
 * pause. Reading and decompression go on meanwhile on other threads. After a failure the tree has a part of the layer.
 *
 * @param onProgress - Told how many bytes of the blob have been used, a few times a second.
 * @throws {@link FlotillaError} `failed_precondition` when the blob has another size; `resource_exhausted` for a layer beyond the
 *   limits.
 * @source containerd v2.3.4 core/diff/apply/apply.go `(*fsApplier).Apply`
 */
export async function applyLayer(
  job: ApplyJob,
  signal: AbortSignal,
  onProgress: (usedBytes: number) => void,
): Promise<AppliedLayer> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  let nextProgress = performance.now() + progressMs;
  await using source = await BlobSource.open(job.blobPath, job.blobBytes);
  const extractor = new Extractor(job.target);
  try {
    const reader = new TarReader(new LimitedSink(extractor, job.limits));
    for await (const chunk of openLayer(job, source, signal)) {
      signal.throwIfAborted();
      hash.update(chunk);
      sizeBytes += chunk.length;
      checkRatio(job.limits, sizeBytes, source.usedBytes);
      reader.write(chunk);
      if (performance.now() > nextProgress) {
        onProgress(source.usedBytes);
        nextProgress = performance.now() + progressMs;
      }
    }
    reader.end();
    extractor.complete();
  } finally {
    extractor.close();
  }
  if (job.syncFileSystem) {
    writeOut(job.target.root);
  }
  const { implied } = extractor;
  const { root } = job.target;
  return {
    digest: `sha256:${hash.digest("hex")}`,
    sizeBytes,
    usedBytes: source.usedBytes,
    implied,
    ...(job.measures && implied.length === 0 ? { measured: { root, usage: measureTree(root) } } : {}),
  };
}

/** The uncompressed bytes of a layer. */
export async function* openLayer(
  { steps, payloads }: Pick<ApplyJob, "steps" | "payloads">,
  source: BlobSource,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  let stream: AsyncIterable<Buffer> = source.read(signal);
  for (const step of steps) {
    if (step.kind === "decompress") {
      stream = decompress(stream, { program: gzipProgram(), signal });
    } else {
      const { processStream } = await import("./stream-processor.ts");
      stream = processStream(stream, { ...step, payload: payloads.get(step.id), signal });
    }
  }
  yield* stream;
}

let foundProgram: { readonly path: string | undefined } | undefined;

/** Looked for once in the life of a thread. */
function gzipProgram(): string | undefined {
  foundProgram ??= { path: findGzipProgram(process.env) };
  return foundProgram.path;
}
