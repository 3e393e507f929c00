import { splitDigest } from "#containerd/digest.ts";
import { isKnownConfigType, isLayerType, isManifestType } from "#containerd/media-types.ts";
import type { Descriptor } from "../registry/ports.ts";

/** On a referrer among the children of a manifest: what it refers to. @source containerd v2.3.4 core/images/annotations.go */
const subjectAnnotation = "io.containerd.manifest.subject";
/** How much of a digest the label of a referrer shows. */
const shownDigestCharacters = 12;

/**
 * The labels by which a manifest or an index keeps what it refers to from being collected.
 *
 * @source containerd v2.3.4 core/images/handlers.go `SetChildrenMappedLabels`, mediatypes.go `ChildGCLabels`
 */
export function childLabels(children: readonly Descriptor[]): Record<string, string> {
  const labels: Record<string, string> = {};
  const counts = new Map<string, number>();
  for (const child of children) {
    const key = keyOf(child);
    const index = counts.get(key) ?? 0;
    counts.set(key, index + 1);
    const suffix = key.endsWith(".sha256.")
      ? splitDigest(child.digest).encoded.slice(0, shownDigestCharacters)
      : index > 0 || key.endsWith(".")
        ? String(index)
        : "";
    labels[`${key}${suffix}`] = child.digest;
  }
  return labels;
}

function keyOf({ mediaType, annotations }: Descriptor): string {
  const base = "containerd.io/gc.ref.content.";
  if (annotations?.[subjectAnnotation] !== undefined) {
    return `${base}referrer.sha256.`;
  }
  return isKnownConfigType(mediaType)
    ? `${base}config`
    : isManifestType(mediaType)
      ? `${base}m.`
      : isLayerType(mediaType)
        ? `${base}l.`
        : base;
}
