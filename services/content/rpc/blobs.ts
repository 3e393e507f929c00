import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { type Digest, isDigest, parseDigest } from "#oci/digest.ts";
import { bindService, type Handlers, type ServiceBinding } from "#rpc/handler.ts";
import { getBlob } from "../domain/blob-access.ts";
import { removeIngestFiles } from "../domain/ingest-status.ts";
import type { WriterParts } from "../domain/ingest-writer.ts";
import { removeBlobs } from "../domain/removal.ts";

/** Direct access to immutable files, for the other processes of the fleet. */
export function blobsService(parts: WriterParts): ServiceBinding {
  const methods: Handlers<typeof Blobs> = {
    async openBlob({ namespace, digest }) {
      const blob = await getBlob(parts.index, { namespace, digest: parseDigest(digest) });
      return { path: parts.blobs.path(blob.digest), size: blob.sizeBytes };
    },
    async removeBlobs({ digests, backendRefs }) {
      for (const backendRef of backendRefs) {
        await removeIngestFiles(parts, backendRef);
      }
      const check = (candidates: readonly Digest[]): Promise<Digest[]> => parts.index.confirmCondemned(candidates);
      return { removedDigests: await removeBlobs(parts, digests.filter(isDigest), check) };
    },
  };
  return bindService(Blobs, methods);
}
