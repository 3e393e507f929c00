import { isDigest, parseDigest } from "#containerd/digest.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { BlobAccess } from "../domain/blob-access.ts";
import { removeIngestFiles } from "../domain/ingest-status.ts";
import type { WriterParts } from "../domain/ingest-writer.ts";
import { type Removal, type RemovalFailure, removeBlobs } from "../domain/removal.ts";

/**
 * Direct access to immutable files, for the other processes of the fleet.
 *
 * @param onRemoval - Told what became of each batch of blobs.
 */
export function blobsService(
  parts: WriterParts,
  access: BlobAccess,
  onRemoval: (removal: Removal) => void,
): ServiceBinding {
  const methods: Handlers<typeof Blobs> = {
    async openBlob({ namespace, digest }) {
      const blob = await access.get({ namespace, digest: parseDigest(digest) });
      await parts.blobs.bring?.(blob.digest);
      return { path: parts.blobs.path(blob.digest), size: blob.sizeBytes };
    },
    async removeBlobs({ digests, backendRefs }) {
      const stuckIngests: RemovalFailure[] = [];
      for (const backendRef of backendRefs) {
        await removeIngestFiles(parts, backendRef).catch((error: unknown) => {
          stuckIngests.push({ what: backendRef, error });
        });
      }
      const { removed, failures } = await removeBlobs(parts, digests.filter(isDigest));
      onRemoval({ removed, failures: [...stuckIngests, ...failures] });
      return { removedDigests: [...removed] };
    },
  };
  return bindService(Blobs, methods);
}
