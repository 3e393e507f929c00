import { pluginRoot } from "#config/config.ts";
import type { ProcessContext, ProcessParts } from "#kernel/run.ts";
import { DigestLocks } from "./domain/digest-locks.ts";
import type { WriterParts } from "./domain/ingest-writer.ts";
import { orphanGraceMs } from "./domain/limits.ts";
import { OpenIngests } from "./domain/open-ingests.ts";
import { BlobDirectories } from "./files/blob-directories.ts";
import { ensureDirectory } from "./files/directory.ts";
import { IngestDirectories } from "./files/ingest-files.ts";
import { ContentLayout } from "./files/layout.ts";
import { connectBlobIndex } from "./index-client.ts";
import { reconcileFiles } from "./reconcile.ts";
import { blobsService } from "./rpc/blobs.ts";
import { contentService } from "./rpc/content.ts";

const directoryMode = 0o755;

/** Puts the content process together: files below the plugin's root, the index in the metadata process. */
export function composeContent(context: ProcessContext): ProcessParts {
  const { config, log, stopping } = context;
  const layout = new ContentLayout(pluginRoot(config, "io.containerd.content.v1.content"));
  const clock = (): bigint => Temporal.Now.instant().epochNanoseconds;
  const ingests = new IngestDirectories(layout, clock);
  const parts: WriterParts = {
    index: connectBlobIndex(context.connect("metadata")),
    ingests,
    blobs: new BlobDirectories(layout),
    digestLocks: new DigestLocks(),
    openIngests: new OpenIngests(clock),
    clock,
  };
  let isReady = false;
  return {
    plugins: [
      {
        type: "io.containerd.content.v1",
        id: "content",
        init: async () => {
          await ensureDirectory(`${layout.blobs}/sha256`, directoryMode);
          await ensureDirectory(layout.ingests, directoryMode);
          const damaged = await ingests.removeDamaged();
          if (damaged > 0) {
            log.warn({ count: damaged }, "removed ingests that were too damaged to have a ref");
          }
          isReady = true;
          return { exports: { root: layout.root } };
        },
      },
      {
        type: "io.containerd.service.v1",
        id: "content-service",
        requires: ["io.containerd.metadata.v1"],
      },
      {
        type: "io.containerd.grpc.v1",
        id: "content",
        requires: ["io.containerd.service.v1"],
        init: () => ({ services: [contentService(parts)] }),
      },
    ],
    services: [blobsService(parts)],
    onReady: () => {
      if (isReady) {
        reconcile();
      }
    },
  };

  function reconcile(): void {
    reconcileFiles(parts, {
      graceMs: orphanGraceMs,
      signal: stopping,
      onLost: (digests) => {
        for (const digest of digests) {
          log.error({ digest }, "the file of a blob is gone; pull its image again");
        }
      },
    }).then(
      ({ removedDigests, removedBackendRefs }) => {
        for (const digest of removedDigests) {
          log.info({ digest }, "removed a blob that had no record");
        }
        for (const ref of removedBackendRefs) {
          log.info({ ref }, "removed an ingest that had no record");
        }
      },
      (error: unknown) => {
        if (!stopping.aborted) {
          log.error({ err: error }, "comparing blobs with their records failed");
        }
      },
    );
  }
}
