import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { type Digest, isDigest } from "#containerd/digest.ts";
import { BlobIndex as BlobIndexService } from "#gen/flotilla/index/v1/index_pb.ts";
import { headersOfPart } from "#wire/call-id.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { BlobIndex } from "./domain/ports.ts";

/** How often a call that may be repeated is sent; each waits for the other process to come back by itself. */
const attemptsMax = 3;

/** How long an answer may take, since digests are locked meanwhile. Reconciliation, which holds no lock, takes what it takes. */
const answerMsMax = 30_000;
const bounded = { timeoutMs: answerMsMax };

/** The index that the metadata process keeps. */
export function connectBlobIndex(connection: RpcConnection): BlobIndex {
  const client = createClient(BlobIndexService, connection.transport);
  return {
    async openIngest({ namespace, lease, ref, expected, totalBytes, signal }) {
      const request = { namespace, lease, ref, expected: expected ?? "", total: totalBytes };
      const { backendRef, shared } = await repeatLost(() => client.openIngest(request, { ...bounded, signal }));
      return { backendRef, shared: shared === undefined ? undefined : { sizeBytes: shared.size } };
    },
    async recordBlob({ namespace, lease, ref, digest, sizeBytes, labels }) {
      const request = { namespace, lease, ref, digest, size: sizeBytes, labels: { ...labels } };
      let wasLost = false;
      try {
        await repeatLost(async () => {
          try {
            return await client.recordBlob(request, bounded);
          } catch (error) {
            wasLost ||= isFailure(error, ErrorKind.Unavailable);
            throw error;
          }
        });
      } catch (error) {
        // The call that was lost may have made the record that the next one found.
        if (!(wasLost && isFailure(error, ErrorKind.AlreadyExists))) {
          throw error;
        }
      }
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

/** Sends a call again when the connection broke, for calls that may be handled twice. */
async function repeatLost<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      if (attempt === attemptsMax || !isFailure(error, ErrorKind.Unavailable)) {
        throw error;
      }
    }
  }
}
