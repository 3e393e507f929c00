import type { Digest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";

/** Label by which a snapshot says what it shall be called once it is committed. @source containerd v2.3.4 core/unpack/unpacker.go */
export const snapshotRefLabel = "containerd.io/snapshot.ref";
const diffIdLabel = "containerd.io/snapshot/diff-id";
const parentChainIdLabel = "containerd.io/snapshot/parent-chain-id";
/** Annotations of a layer that begin with this are labels of its snapshot. @source containerd v2.3.4 core/snapshots/snapshotter.go `inheritedLabelsPrefix` */
const inheritedPrefix = "containerd.io/snapshot/";

/** Where a layer has its place in a chain. */
export interface ChainPlace {
  readonly chainId: Digest;
  readonly diffId: Digest;
  /** Chain ID of the layers below; undefined for the lowest. */
  readonly parentChainId: Digest | undefined;
}

/**
 * The labels of the snapshot of a layer, active and committed: those asked for, then those that its annotations bring, such as
 * `containerd.io/snapshot/cri.image-ref`, and then those of the unpacker.
 *
 * @source containerd v2.3.4 core/unpack/unpacker.go `unpack`, core/snapshots/snapshotter.go `FilterInheritedLabels`
 */
export function chainLabels(asked: Labels, annotations: Labels, place: ChainPlace): Labels {
  const inherited = Object.entries(annotations).filter(
    ([key]) => key === snapshotRefLabel || key.startsWith(inheritedPrefix),
  );
  return {
    ...asked,
    ...Object.fromEntries(inherited),
    [snapshotRefLabel]: place.chainId,
    [diffIdLabel]: place.diffId,
    ...(place.parentChainId === undefined ? {} : { [parentChainIdLabel]: place.parentChainId }),
  };
}
