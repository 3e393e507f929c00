import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { labelBytesMax } from "#base/limits.ts";

/** Labels by key. A label with an empty value does not exist. */
export type Labels = Readonly<Record<string, string>>;

/** Lets other namespaces use the blobs of the namespace that carries it with the value `true`. */
export const sharedNamespaceLabel = "containerd.io/namespace.shareable";
/** On compressed layers: the digest of the uncompressed bytes. */
export const uncompressedLabel = "containerd.io/uncompressed";
/** On a snapshot that is being prepared: the name of the committed snapshot that would make it needless. */
export const snapshotRefLabel = "containerd.io/snapshot.ref";

/** Labels that begin with this, and {@link snapshotRefLabel}, are told to the snapshotter. @source containerd v2.3.4 core/snapshots/snapshotter.go `inheritedLabelsPrefix` */
const inheritedPrefix = "containerd.io/snapshot/";

/** How much of a key that is too long an error shows. @source containerd v2.3.4 pkg/labels/validate.go `keyMaxLen` */
const shownKeyBytesMax = 64;

/**
 * Checks the size of every label.
 *
 * @param context - What containerd puts before the text, such as `image.Labels`; absent for nothing.
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text, for the first label by key that is too long.
 * @source containerd v2.3.4 pkg/labels/validate.go `Validate`
 */
export function validateLabels(labels: Labels, context?: string): void {
  for (const key of Object.keys(labels).sort()) {
    try {
      validateLabel(key, labels[key] ?? "");
    } catch (error) {
      throw context === undefined ? error : wrapFailure(error, context);
    }
  }
}

function validateLabel(key: string, value: string): void {
  const sizeBytes = Buffer.byteLength(key) + Buffer.byteLength(value);
  if (sizeBytes > labelBytesMax) {
    const shownKey = Buffer.from(key).subarray(0, shownKeyBytesMax).toString();
    throw failure(
      ErrorKind.InvalidArgument,
      `label key and value length (${sizeBytes} bytes) greater than maximum size (${labelBytesMax} bytes), key: ${shownKey}`,
    );
  }
}

/**
 * The labels that exist: those whose value is not empty.
 *
 * @source containerd v2.3.4 core/metadata/boltutil/helpers.go `WriteLabels`
 */
export function withoutEmptyLabels(labels: Labels): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== ""));
}

/** The labels of a snapshot that its snapshotter is told. @source containerd v2.3.4 core/snapshots/snapshotter.go `FilterInheritedLabels` */
export function inheritedLabels(labels: Labels): Labels {
  return Object.fromEntries(
    Object.entries(labels).filter(([key]) => key === snapshotRefLabel || key.startsWith(inheritedPrefix)),
  );
}
