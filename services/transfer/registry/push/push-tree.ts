import { ErrorKind, failure } from "#base/errors.ts";
import type { Digest } from "#containerd/digest.ts";
import { RegistryError, wrapRegistryError } from "../http/registry-error.ts";
import { isIndexType, isManifestType } from "../media-type.ts";
import type { Descriptor, PushRequest } from "../ports.ts";
import type { Repository } from "../repository.ts";
import { turnsOf } from "../turns-by-name.ts";
import { forEachOf } from "./for-each-of.ts";
import { type ContentPush, isThere, pushContent } from "./push-content.ts";

/** How much one image may consist of. */
const descriptorsMax = 100_000;
/** Descriptors that the registry is asked for at a time. Fewer are sent at a time, by the settings. */
const askedAtOnce = 10;

type Part = Pick<ContentPush, "descriptor" | "findLabels">;

/** Everything below a root, in the order in which it was found, each digest once. */
interface Parts {
  readonly blobs: readonly Part[];
  readonly manifests: readonly Part[];
  readonly indexes: readonly Part[];
}

/**
 * Pushes everything below a descriptor, so that the registry never has what refers to something that it has not.
 *
 * What the registry has is found out for many at a time. It is asked for the root with the blobs, and once more if anything had to be
 * sent. The first failure ends all that is under way.
 *
 * @source containerd v2.3.4 core/remotes/handlers.go `PushContent`
 */
export async function pushTree(repository: Repository, root: Descriptor, request: PushRequest): Promise<void> {
  const { content, onProgress, signal } = request;
  const { blobs, manifests, indexes } = await collectParts(root, request);
  const { maxConcurrentUploads } = repository.settings;
  const atOnceMax = maxConcurrentUploads === 0 ? 0 : Math.max(maxConcurrentUploads, askedAtOnce);
  const sending = turnsOf(maxConcurrentUploads);
  let hasSent = false;
  let isRootStored: boolean | undefined;
  const pushOf = (part: Part, partSignal: AbortSignal): ContentPush => ({
    ...part,
    repository,
    content,
    root,
    sending,
    signal: partSignal,
    onProgress: (progress) => {
      hasSent ||= progress.state === "complete" || progress.state === "mounted";
      onProgress?.(progress);
    },
  });
  const bring = async (part: Part, partSignal: AbortSignal): Promise<void> => {
    await pushContent(pushOf(part, partSignal), part.descriptor === root && !hasSent ? isRootStored : undefined);
  };
  const top = [...manifests, ...indexes].filter(({ descriptor }) => descriptor === root);
  await forEachOf([...top, ...blobs], { atOnceMax, signal }, async (part, partSignal) => {
    if (part === top[0]) {
      isRootStored = await isThere(pushOf(part, partSignal));
    } else {
      await bring(part, partSignal);
    }
  });
  await forEachOf(manifests, { atOnceMax, signal }, bring);
  for (const index of indexes.toReversed()) {
    try {
      await bring(index, signal);
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
  const partOf = (descriptor: Descriptor, above: Part | undefined): Part => {
    let labels: ReturnType<Part["findLabels"]> | undefined;
    const find = async (): ReturnType<Part["findLabels"]> => {
      const [own, others] = await Promise.all([content.findLabels(descriptor.digest, signal), above?.findLabels()]);
      return [own, ...(others ?? [])];
    };
    return { descriptor, findLabels: () => (labels ??= find()) };
  };
  let level: Part[] = [partOf(root, undefined)];
  while (level.length > 0) {
    const next: Part[] = [];
    for (const part of level) {
      const { descriptor } = part;
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
      next.push(...(await listChildren(descriptor)).map((child) => partOf(child, part)));
    }
    level = next;
  }
  return { blobs, manifests, indexes };
}
