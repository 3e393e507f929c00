import { createClient } from "@connectrpc/connect";
import { type Digest, isDigest } from "#containerd/digest.ts";
import { BlobIndex as BlobIndexService } from "#gen/flotilla/index/v1/index_pb.ts";
import { headersOfPart } from "#wire/call-id.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { BlobIndex } from "./domain/ports.ts";

/** How long an answer may take, since digests are locked meanwhile. Reconciliation, which holds no lock, takes what it takes. */
const answerMsMax = 30_000;
const bounded = { timeoutMs: answerMsMax };

/** The index that the metadata process keeps. Calls that its death cuts off are made again by the connection, and carried out once. */
export function connectBlobIndex(connection: RpcConnection): BlobIndex {
  const client = createClient(BlobIndexService, connection.transport);
  return {
    async openIngest({ namespace, lease, ref, expected, totalBytes, signal }) {
      const request = { namespace, lease, ref, expected: expected ?? "", total: totalBytes };
      const { backendRef, shared } = await client.openIngest(request, { ...bounded, signal });
      return { backendRef, shared: shared === undefined ? undefined : { sizeBytes: shared.size } };
    },
    async recordBlob({ namespace, lease, ref, digest, sizeBytes, labels }) {
      const request = { namespace, lease, ref, digest, size: sizeBytes, labels: { ...labels } };
      await client.recordBlob(request, bounded);
    },
    async resolveBlobs(namespace, digests) {
      const { blobs } = await client.resolveBlobs({ namespace, digests: [...digests] }, bounded);
      return blobs.map(({ digest, size }) => ({ digest: digest as Digest, sizeBytes: size }));
    },
    async listIngests(namespace, ref) {
      return (await client.listIngests({ namespace, refs: ref === undefined ? [] : [ref] }, bounded)).ingests;
    },
    async removeIngest({ namespace, ref, lease, call }) {
      const options = { ...bounded, headers: headersOfPart(call, "abort") };
      return (await client.removeIngest({ namespace, ref, lease }, options)).backendRef;
    },
    async confirmCondemned(digests) {
      return (await client.confirmCondemned({ digests: [...digests] }, bounded)).digests.filter(isDigest);
    },
    async reconcile({ digests, backendRefs }) {
      const found = await client.reconcileBlobs({ digests: [...digests], backendRefs: [...backendRefs] });
      return {
        orphanDigests: found.orphanDigests.filter(isDigest),
        orphanBackendRefs: found.orphanBackendRefs,
        lostDigests: found.lostDigests.filter(isDigest),
      };
    },
  };
}
