import { validateLabels } from "#containerd/labels.ts";

/** Says whether a container is one of a pod or keeps the pod. @source containerd v2.3.4 internal/cri/labels/labels.go */
export const kindLabel = "io.cri-containerd.kind";

const reservedPrefixes = ["containerd.io/", "io.cri-containerd"];

/**
 * Labels of a container's record: those of its image, but what would be taken for one of ours or is too large, and over them its own.
 *
 * @returns Also the keys that were left out.
 * @source containerd v2.3.4 internal/cri/util/util.go `BuildLabels`
 */
export function containerLabels(
  own: Readonly<Record<string, string>>,
  ofImage: Readonly<Record<string, string>>,
): { readonly labels: Record<string, string>; readonly dropped: readonly string[] } {
  const kept = Object.entries(ofImage).filter(([key, value]) => isFit(key, value));
  const keys = new Set(kept.map(([key]) => key));
  return {
    labels: { ...Object.fromEntries(kept), ...own, [kindLabel]: "container" },
    dropped: Object.keys(ofImage).filter((key) => !keys.has(key)),
  };
}

function isFit(key: string, value: string): boolean {
  if (reservedPrefixes.some((prefix) => key.startsWith(prefix))) {
    return false;
  }
  try {
    validateLabels({ [key]: value });
    return true;
  } catch {
    return false;
  }
}
