import type { Digest } from "#containerd/digest.ts";
import { inheritedLabels, type Labels, snapshotRefLabel } from "#containerd/labels.ts";

const diffIdLabel = "containerd.io/snapshot/diff-id";
const parentChainIdLabel = "containerd.io/snapshot/parent-chain-id";

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
 * @source containerd v2.3.4 core/unpack/unpacker.go `unpack`
 */
export function chainLabels(asked: Labels, annotations: Labels, place: ChainPlace): Labels {
  return {
    ...asked,
    ...inheritedLabels(annotations),
    [snapshotRefLabel]: place.chainId,
    [diffIdLabel]: place.diffId,
    ...(place.parentChainId === undefined ? {} : { [parentChainIdLabel]: place.parentChainId }),
  };
}
