import { ErrorKind, failure } from "#base/errors.ts";
import type { Digest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import { RegistryError, wrapRegistryError } from "../http/registry-error.ts";
import { isIndexType, isManifestType } from "../media-type.ts";
import type { Descriptor, PushRequest } from "../ports.ts";
import type { Repository } from "../repository.ts";
import { forEachOf } from "./for-each-of.ts";
import { type ContentPush, pushContent } from "./push-content.ts";

/** How much one image may consist of. */
const descriptorsMax = 100_000;

interface Part {
  readonly descriptor: Descriptor;
  readonly labelsAbove: readonly (Labels | undefined)[];
}

/** Everything below a root, in the order in which it was found, each digest once. */
interface Parts {
  readonly blobs: readonly Part[];
  readonly manifests: readonly Part[];
  readonly indexes: readonly Part[];
}

/**
 * Pushes everything below a descriptor, so that the registry never has what refers to something that it has not.
 *
 * The first failure ends all that is under way.
 *
 * @source containerd v2.3.4 core/remotes/handlers.go `PushContent`
 */
export async function pushTree(repository: Repository, root: Descriptor, request: PushRequest): Promise<void> {
  const { content, onProgress, signal } = request;
  const { blobs, manifests, indexes } = await collectParts(root, request);
  const { maxConcurrentUploads } = repository.settings;
  const push = (part: Part, partSignal: AbortSignal): Promise<void> => {
    const parts: ContentPush = { repository, content, root, ...part, signal: partSignal };
    return pushContent(onProgress === undefined ? parts : { ...parts, onProgress });
  };
  await forEachOf(blobs, { atOnceMax: maxConcurrentUploads, signal }, push);
  await forEachOf(manifests, { atOnceMax: maxConcurrentUploads, signal }, push);
  for (const index of indexes.toReversed()) {
    try {
      await push(index, signal);
    } catch (error) {
      const isIncomplete = error instanceof RegistryError && error.status === 400;
      const reason = "manifest list/index references to blobs and/or manifests are missing in your target registry";
      throw isIncomplete ? wrapRegistryError(error, reason) : error;
    }
  }
}

async function collectParts(root: Descriptor, { content, listChildren, signal }: PushRequest): Promise<Parts> {
  const blobs: Part[] = [];
  const manifests: Part[] = [];
  const indexes: Part[] = [];
  const seen = new Set<Digest>();
  let level: Part[] = [{ descriptor: root, labelsAbove: [] }];
  while (level.length > 0) {
    const next: Part[] = [];
    for (const part of level) {
      const { descriptor, labelsAbove } = part;
      if (seen.has(descriptor.digest)) {
        continue;
      }
      seen.add(descriptor.digest);
      if (seen.size > descriptorsMax) {
        throw failure(ErrorKind.ResourceExhausted, `image ${root.digest} has more than ${descriptorsMax} parts`);
      }
      if (isIndexType(descriptor.mediaType)) {
        indexes.push(part);
      } else if (isManifestType(descriptor.mediaType)) {
        manifests.push(part);
      } else {
        blobs.push(part);
        continue;
      }
      const [labels, children] = await Promise.all([
        content.findLabels(descriptor.digest, signal),
        listChildren(descriptor),
      ]);
      next.push(...children.map((child) => ({ descriptor: child, labelsAbove: [labels, ...labelsAbove] })));
    }
    level = next;
  }
  return { blobs, manifests, indexes };
}
