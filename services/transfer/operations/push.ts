import { childrenOf, hasChildren, parseManifest } from "#containerd/image-manifest.ts";
import { anyPlatform, orderedPlatforms } from "#containerd/platform.ts";
import { withPlatform } from "../domain/child-filter.ts";
import { ProgressTracker } from "../progress/progress-tracker.ts";
import type { Descriptor, Registry } from "../registry/ports.ts";
import type { ImageEnd } from "./image-end.ts";
import type { TransferContext } from "./transfer-context.ts";

/**
 * Pushes an image, of its platforms those that are wanted, everything before what refers to it.
 *
 * @source containerd v2.3.4 core/transfer/local/push.go
 */
export async function pushImage(
  { content, images, progress, signal }: TransferContext,
  source: ImageEnd,
  registry: Registry,
): Promise<void> {
  const matcher = source.platforms.length === 0 ? anyPlatform : orderedPlatforms(source.platforms);
  const { name, target } = await images.get(source.name, signal);
  const shown = `OCI Registry (${registry.reference})`;
  progress({ event: `Pushing to ${shown}` });
  progress({ event: "pushing content", name, descriptor: target });
  using tracker = new ProgressTracker(name, "uploading", progress);
  tracker.add(target);
  await registry.push(target, {
    content,
    listChildren: async (parent: Descriptor) => {
      if (!hasChildren(parent)) {
        return [];
      }
      const children = childrenOf(parseManifest(await content.readDocument(parent, signal), parent));
      const wanted = withPlatform(matcher, children);
      tracker.addChildren(parent, wanted);
      wanted.forEach((child) => tracker.add(child));
      return wanted;
    },
    onProgress: ({ descriptor, state, offset }) => {
      if (state === "active") {
        tracker.move(descriptor, offset);
      } else if (state === "existed") {
        tracker.exists(descriptor);
      } else if (state !== "waiting") {
        tracker.complete(descriptor);
      }
    },
    signal,
  });
  progress({ event: "pushed content", name, descriptor: target });
  progress({ event: `Completed push to ${shown}`, descriptor: target });
  tracker.repeat(target);
}
