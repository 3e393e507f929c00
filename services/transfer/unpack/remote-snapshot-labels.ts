import { labelBytesMax } from "#base/limits.ts";
import { isLayerType } from "#containerd/media-types.ts";
import type { Descriptor } from "../registry/ports.ts";

const layersLabel = "containerd.io/snapshot/cri.image-layers";

/**
 * What a snapshotter has to know of a layer to fetch it by itself: the image, its manifest, the layer and those above it, of which as many
 * are named as fit into a label.
 *
 * @source containerd v2.3.4 pkg/snapshotters/annotations.go `AppendInfoHandlerWrapper`
 */
export function remoteSnapshotLabels(
  imageName: string,
  manifest: Descriptor,
  layers: readonly Descriptor[],
  index: number,
): Record<string, string> {
  let above = "";
  for (const { digest } of layers.slice(index).filter(({ mediaType }) => isLayerType(mediaType))) {
    const longer = above === "" ? digest : `${above},${digest}`;
    if (layersLabel.length + longer.length > labelBytesMax) {
      break;
    }
    above = longer;
  }
  return {
    "containerd.io/snapshot/cri.image-ref": imageName,
    "containerd.io/snapshot/cri.layer-digest": layers[index]?.digest ?? "",
    [layersLabel]: above,
    "containerd.io/snapshot/cri.manifest-digest": manifest.digest,
  };
}
