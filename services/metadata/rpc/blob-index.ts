import { BlobIndex } from "#gen/flotilla/index/v1/index_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { IngestStore } from "../store/ingests.ts";
import { reconcileBlobs } from "../store/reconcile.ts";
import type { Records } from "../store/records.ts";
import type { ReleaseStore } from "../store/releases.ts";

/** Answers the content process about blobs and ingests. The contract stands in index.proto. */
export function blobIndexService(
  records: Records,
  stores: { readonly blobs: BlobStore; readonly ingests: IngestStore; readonly releases: ReleaseStore },
): ServiceBinding {
  const { blobs, ingests, releases } = stores;
  return bindService(BlobIndex, {
    openIngest: async (request) => {
      const { backendRef, sharedSize } = await ingests.open(request);
      return sharedSize === undefined ? { backendRef } : { backendRef, shared: { size: sharedSize } };
    },
    recordBlob: async (request) => {
      await ingests.commit(request);
      return {};
    },
    resolveBlobs: ({ namespace, digests }) => ({ blobs: blobs.resolve(namespace, digests) }),
    listIngests: ({ namespace, refs }) => ({
      ingests: ingests.list(namespace, refs).map(({ ref, backendRef, expected }) => ({ ref, backendRef, expected })),
    }),
    removeIngest: async ({ namespace, ref, lease }) => ({ backendRef: await ingests.abort(namespace, ref, lease) }),
    confirmCondemned: async ({ digests }) => ({
      digests: await records.maintain(() => digests.filter((digest) => releases.beginDeleting(digest))),
    }),
    reconcileBlobs: async (files) => {
      const { orphanDigests, orphanBackendRefs, lostDigests } = await reconcileBlobs(files, records, stores);
      return {
        orphanDigests: [...orphanDigests],
        orphanBackendRefs: [...orphanBackendRefs],
        lostDigests: [...lostDigests],
      };
    },
  } satisfies Handlers<typeof BlobIndex>);
}
