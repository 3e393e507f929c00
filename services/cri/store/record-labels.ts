import { validateLabels } from "#containerd/labels.ts";

/** Tells pause containers from the others. @source containerd v2.3.4 internal/cri/labels/labels.go `ContainerKindLabel` */
export const kindLabel = "io.cri-containerd.kind";

/** Labels that mean something to containerd, and that no image may set. @source containerd v2.3.4 pkg/labels/validate.go `IsReserved` */
const reserved = /^(?:containerd\.io\/|io\.cri-containerd)/;

/**
 * The labels of the record of a container: those of the kubelet before those of the image, of which what can't be a label is left out.
 *
 * @source containerd v2.3.4 internal/cri/util/util.go `BuildLabels`
 */
export function recordLabels(
  own: Readonly<Record<string, string>>,
  ofImage: Readonly<Record<string, string>>,
  kind: "sandbox" | "container",
): Record<string, string> {
  const fit = Object.entries(ofImage).filter(([key, value]) => !reserved.test(key) && isLabel(key, value));
  return { ...Object.fromEntries(fit), ...own, [kindLabel]: kind };
}

function isLabel(key: string, value: string): boolean {
  try {
    validateLabels({ [key]: value });
    return true;
  } catch {
    return false;
  }
}
