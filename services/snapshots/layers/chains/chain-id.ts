import { type Digest, digestOf } from "#containerd/digest.ts";

/**
 * The names of the snapshots that a list of layers stands for, one for each layer and those below it.
 *
 * @param diffIds - Digests of the uncompressed layers, the lowest first.
 * @source OCI image-spec v1.1 config.md "Layer ChainID"
 */
export function chainIdsOf(diffIds: readonly Digest[]): Digest[] {
  const chainIds: Digest[] = [];
  for (const diffId of diffIds) {
    const below = chainIds.at(-1);
    chainIds.push(below === undefined ? diffId : digestOf(`${below} ${diffId}`));
  }
  return chainIds;
}
