/** Says that an image is known to the kubelet. @source containerd v2.3.4 internal/cri/labels/labels.go */
const managedLabel = "io.cri-containerd.image";
/** Says that an image is never to be collected. */
const pinnedLabel = "io.cri-containerd.pinned";

/** Labels of every name of an image that the kubelet knows. @source containerd v2.3.4 internal/cri/server/images/image_pull.go `getLabels` */
export function criImageLabels(reference: string, pinned: Readonly<Record<string, string>>): Record<string, string> {
  return {
    [managedLabel]: "managed",
    ...(Object.values(pinned).includes(reference) ? { [pinnedLabel]: "pinned" } : {}),
  };
}

/** Tells whether a name pins its image. */
export function isPinned(labels: Readonly<Record<string, string>>): boolean {
  return labels[pinnedLabel] === "pinned";
}
