import { createHash } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Content, WriteAction } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Blobs as BlobsService } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Blobs, StoredBlob } from "./domain/ports.ts";

/** The blobs that the content process keeps. */
export function connectBlobs(connection: RpcConnection): Blobs {
  const blobs = createClient(BlobsService, connection.transport);
  const content = createClient(Content, connection.transport);
  return {
    async locate(namespace, digest) {
      return (await blobs.openBlob({ namespace, digest })).path;
    },
    async store({ namespace, lease }, ref, bytes) {
      const stored = { digest: "", sizeBytes: 0n };
      try {
        for await (const { action } of content.write(writeRequests(ref, bytes, stored), {
          headers: clientHeaders(namespace, lease),
        })) {
          if (action === WriteAction.COMMIT) {
            break;
          }
        }
      } catch (error) {
        if (!isFailure(error, ErrorKind.AlreadyExists)) {
          throw error;
        }
      }
      return stored;
    },
  };
}

/** The messages that write a blob from its beginning; fills in what was stored before the last of them. */
async function* writeRequests(
  ref: string,
  bytes: AsyncIterable<Uint8Array>,
  stored: { -readonly [K in keyof StoredBlob]: StoredBlob[K] },
) {
  const hash = createHash("sha256");
  for await (const data of bytes) {
    yield { action: WriteAction.WRITE, ref, offset: stored.sizeBytes, data };
    hash.update(data);
    stored.sizeBytes += BigInt(data.byteLength);
  }
  stored.digest = `sha256:${hash.digest("hex")}`;
  yield {
    action: WriteAction.COMMIT,
    ref,
    offset: stored.sizeBytes,
    total: stored.sizeBytes,
    expected: stored.digest,
  };
}
