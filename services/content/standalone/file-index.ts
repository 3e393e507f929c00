import { ErrorKind, failure } from "#base/errors.ts";
import type { Digest } from "#containerd/digest.ts";
import type { BlobFiles, BlobIndex, IngestFiles } from "../domain/ports.ts";

/**
 * The index of a content store that stands alone: what is on disk is all there is. There are no namespaces, no leases and no labels, which whoever
 * uses the store keeps, and an ingest is known by the name that it was opened with.
 */
export function openFileIndex(files: { readonly blobs: BlobFiles; readonly ingests: IngestFiles }): BlobIndex {
  const { blobs, ingests } = files;
  const requireIngest = async (ref: string): Promise<void> => {
    if (!(await ingests.list()).includes(ref)) {
      throw failure(ErrorKind.NotFound, `ingest ref ${JSON.stringify(ref)}`);
    }
  };
  return {
    async openIngest({ ref, expected }) {
      if (ref === "") {
        throw failure(ErrorKind.InvalidArgument, "ref must not be empty");
      }
      if (expected !== undefined && (await blobs.findSizeBytes(expected)) !== undefined) {
        throw failure(ErrorKind.AlreadyExists, `content ${expected}`);
      }
      return { backendRef: ref, shared: undefined };
    },
    recordBlob: () => Promise.resolve(),
    async resolveBlobs(_namespace, digests) {
      const found = await Promise.all(
        digests.map(async (digest) => ({ digest, sizeBytes: await blobs.findSizeBytes(digest) })),
      );
      return found.flatMap(({ digest, sizeBytes }) => (sizeBytes === undefined ? [] : [{ digest, sizeBytes }]));
    },
    async listIngests(_namespace, ref) {
      const refs = (await ingests.list()).filter((each) => ref === undefined || each === ref);
      return refs.map((each) => ({ ref: each, backendRef: each }));
    },
    async removeIngest({ ref }) {
      await requireIngest(ref);
      return ref;
    },
    confirmCondemned: (digests: readonly Digest[]) => Promise.resolve([...digests]),
    reconcile: () => Promise.resolve({ orphanDigests: [], orphanBackendRefs: [], lostDigests: [] }),
  };
}
