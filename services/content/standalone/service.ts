import { KeyedLock } from "#base/keyed-lock.ts";
import { wallClock } from "#base/times.ts";
import type { StandaloneContext } from "#fleet/standalone/run-standalone.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import { BlobAccess } from "../domain/blob-access.ts";
import type { WriterParts } from "../domain/ingest-writer.ts";
import { OpenIngests } from "../domain/open-ingests.ts";
import { BlobDirectories } from "../files/blob-directories.ts";
import { ensureDirectory } from "../files/directory.ts";
import { IngestDirectories } from "../files/ingest-files.ts";
import { ContentLayout } from "../files/layout.ts";
import { contentService } from "../rpc/content.ts";
import { blobInfoService } from "./blob-info.ts";
import { openFileIndex } from "./file-index.ts";

const directoryMode = 0o755;

/** Puts a content store together that stands alone, in containerd's own layout below its root. */
export async function composeStandaloneContent({ root, log }: StandaloneContext): Promise<ServiceBinding[]> {
  const layout = new ContentLayout(root);
  const ingests = new IngestDirectories(layout, wallClock);
  const blobs = new BlobDirectories(layout);
  await ensureDirectory(`${layout.blobs}/sha256`, directoryMode);
  await ensureDirectory(layout.ingests, directoryMode);
  const damaged = await ingests.removeDamaged();
  if (damaged > 0) {
    log.warn({ count: damaged }, "removed ingests that no longer told their ref");
  }
  const index = openFileIndex({ blobs, ingests });
  const parts: WriterParts = {
    index,
    ingests,
    blobs,
    digestLocks: new KeyedLock(),
    openIngests: new OpenIngests(wallClock),
    clock: wallClock,
  };
  // Somebody else may remove a blob at any time, so that nothing is remembered.
  const access = new BlobAccess(index, { read: () => undefined });
  const own = contentService(parts, access);
  const info = blobInfoService(parts);
  return [{ service: own.service, handlers: { ...own.handlers, ...info.handlers } }];
}
