import { ErrorKind, failure } from "#base/errors.ts";
import type { Digest } from "#containerd/digest.ts";
import type { BlobIndex, BlobRecord } from "./ports.ts";

/**
 * A blob that a namespace may read. Cost: one call.
 *
 * @throws {@link FlotillaError} `not_found` when the namespace does not have it, whoever else may.
 * @source containerd v2.3.4 core/metadata/content.go `checkAccess`
 */
export async function getBlob(
  index: BlobIndex,
  { namespace, digest }: { readonly namespace: string; readonly digest: Digest },
): Promise<BlobRecord> {
  const [found] = await index.resolveBlobs(namespace, [digest]);
  if (found === undefined) {
    throw failure(ErrorKind.NotFound, `content digest ${digest}`);
  }
  return found;
}
