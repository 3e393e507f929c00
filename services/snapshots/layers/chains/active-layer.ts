import { randomBytes } from "node:crypto";
import { ErrorKind, type FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Digest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import type { Mount } from "#linux/mount.ts";
import { asUpperDirectory } from "../mount-shape.ts";
import type { ChainSnapshots } from "../ports.ts";

/** The active snapshot into which a layer is written. */
export interface ActiveLayer {
  readonly key: string;
  readonly mounts: readonly Mount[];
}

/** How often a key may be taken before that is an error. @source containerd v2.3.4 core/unpack/unpacker.go `topHalf` */
const triesMax = 3;

/**
 * Makes an active snapshot for a layer.
 *
 * @param parent - What it is made on; "" for nothing, also where it is put on its parent later.
 * @returns Undefined when the snapshot of the layer is there already, or the snapshotter had it elsewhere. The lease holds it then.
 * @throws {@link FlotillaError}
 * @source containerd v2.3.4 core/unpack/unpacker.go `topHalf`
 */
export async function prepareLayer(
  snapshots: ChainSnapshots,
  layer: { readonly chainId: Digest; readonly parentChainId: Digest | undefined; readonly labels: Labels },
  parent: string,
): Promise<ActiveLayer | undefined> {
  const { chainId, parentChainId, labels } = layer;
  let taken: FlotillaError | undefined;
  for (let tries = 0; tries < triesMax; tries += 1) {
    const key = extractionKey(chainId);
    try {
      const mounts = await snapshots.prepare({ key, parent, labels });
      // What lies below comes later; removals have to be written for it all the same.
      return { key, mounts: parent === "" && parentChainId !== undefined ? asUpperDirectory(mounts) : mounts };
    } catch (error) {
      if (!isFailure(error, ErrorKind.AlreadyExists)) {
        throw wrapFailure(error, `failed to prepare extraction snapshot ${quote(key)}`);
      }
      taken = error;
    }
    if (await snapshots.exists(chainId)) {
      return undefined;
    }
  }
  throw wrapFailure(taken, "unable to prepare extraction snapshot");
}

/** @source containerd v2.3.4 core/snapshots/snapshotter.go `UnpackKeyFormat`, core/unpack/unpacker.go `uniquePart` */
function extractionKey(chainId: Digest): string {
  const nanoseconds = Temporal.Now.instant().epochNanoseconds % 1_000_000_000n;
  return `extract-${nanoseconds}-${randomBytes(3).toString("base64url")} ${chainId}`;
}
