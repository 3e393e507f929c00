import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { ContentWrite } from "#fleet/peers/content-write.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { BlobStore } from "./ports.ts";

/**
 * The blobs of the fleet.
 *
 * @param connections - To the process that keeps the bytes and to the one that keeps the labels.
 */
export function connectBlobStore(connections: {
  readonly content: RpcConnection;
  readonly metadata: RpcConnection;
}): BlobStore {
  const blobs = createClient(Blobs, connections.content.transport);
  const content = createClient(Content, connections.content.transport);
  const records = createClient(Content, connections.metadata.transport);
  const setLabel: BlobStore["setLabel"] = async ({ namespace, signal }, digest, key, value) => {
    const request = { info: { digest, labels: { [key]: value } }, updateMask: { paths: [`labels.${key}`] } };
    await records.update(request, { headers: clientHeaders(namespace), signal });
  };
  return {
    async locate({ namespace, signal }, digest) {
      return (await blobs.openBlob({ namespace, digest }, { signal })).path;
    },
    async write({ namespace, lease, signal }, ref, bytes, labels) {
      const write = new ContentWrite(content, { namespace, lease, ref, signal });
      try {
        for await (const data of bytes) {
          await write.append(data);
        }
        const { digest, offset: sizeBytes } = write;
        return { digest, sizeBytes, existed: await isThereBefore(write.commit({ digest }, labels())) };
      } finally {
        await write.close();
      }
    },
    async abort({ namespace, lease }, ref) {
      await content.abort({ ref }, { headers: clientHeaders(namespace, lease) });
    },
    setLabel,
    async addLabel(owner, digest, key, value) {
      const { namespace, signal } = owner;
      const { info } = await records.info({ digest }, { headers: clientHeaders(namespace), signal });
      if (info !== undefined && info.labels[key] === undefined) {
        await setLabel(owner, digest, key, value);
      }
    },
  };
}

/** Whether a commit found that the blob is there already. */
async function isThereBefore(committing: Promise<void>): Promise<boolean> {
  try {
    await committing;
    return false;
  } catch (error) {
    if (isFailure(error, ErrorKind.AlreadyExists)) {
      return true;
    }
    throw error;
  }
}
