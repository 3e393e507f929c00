import { ErrorKind, failure } from "#base/errors.ts";
import { platformOf } from "#containerd/image-manifest.ts";
import { isConfigType, isIndexType, isManifestType } from "#containerd/media-types.ts";
import { anyPlatform, type ImagePlatform, orderedPlatforms, type PlatformMatcher } from "#containerd/platform.ts";
import type { Descriptor } from "../registry/ports.ts";

/** Which parts of an image are wanted, as an `ImageStore` says. */
export interface ImageSelection {
  /** None for all. */
  readonly platforms: readonly ImagePlatform[];
  /** Manifests and configurations of other platforms too. */
  readonly allMetadata: boolean;
  /** Most manifests of an index; 0 for all. */
  readonly manifestLimit: number;
}

/** Chooses among the children of a manifest or an index. */
export type ChildFilter = (parent: Descriptor, children: readonly Descriptor[]) => readonly Descriptor[];

/**
 * The choice that an image store makes.
 *
 * @throws {@link FlotillaError} (the filter) `not_found` when an index with a limit has nothing to choose from.
 * @source containerd v2.3.4 core/transfer/image/imagestore.go `ImageFilter`
 */
export function selectChildren({ platforms, allMetadata, manifestLimit }: ImageSelection): ChildFilter {
  const matcher = platforms.length === 0 ? anyPlatform : orderedPlatforms(platforms);
  return (parent, children) => {
    const chosen = allMetadata ? withoutOtherLayers(matcher, parent, children) : withPlatform(matcher, children);
    return manifestLimit > 0 && isIndexType(parent.mediaType) ? best(matcher, chosen, manifestLimit) : chosen;
  };
}

/** Children for the wanted platforms, and those for none. @source containerd v2.3.4 core/images/handlers.go `FilterPlatforms` */
export function withPlatform(matcher: PlatformMatcher, children: readonly Descriptor[]): readonly Descriptor[] {
  return children.filter((child) => {
    const platform = platformOf(child);
    return platform === undefined || matcher.matches(platform);
  });
}

/** @source containerd v2.3.4 core/remotes/handlers.go `FilterManifestByPlatformHandler` */
function withoutOtherLayers(
  matcher: PlatformMatcher,
  parent: Descriptor,
  children: readonly Descriptor[],
): readonly Descriptor[] {
  const platform = platformOf(parent);
  return platform !== undefined && isManifestType(parent.mediaType) && !matcher.matches(platform)
    ? children.filter(({ mediaType }) => isConfigType(mediaType))
    : children;
}

/** @source containerd v2.3.4 core/images/handlers.go `LimitManifests` */
function best(matcher: PlatformMatcher, children: readonly Descriptor[], limit: number): readonly Descriptor[] {
  if (children.length === 0) {
    throw failure(ErrorKind.NotFound, "no match for platform in manifest");
  }
  return sortByPlatform(matcher, children).slice(0, limit);
}

/** Those wanted most first, those without a platform last. */
export function sortByPlatform(matcher: PlatformMatcher, children: readonly Descriptor[]): Descriptor[] {
  const isLess = (first: Descriptor, second: Descriptor): boolean => {
    const [one, other] = [platformOf(first), platformOf(second)];
    return one !== undefined && (other === undefined || matcher.isLess(one, other));
  };
  return children.toSorted((first, second) => (isLess(first, second) ? -1 : isLess(second, first) ? 1 : 0));
}
