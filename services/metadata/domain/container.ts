import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { applyFieldMask, maskedMap, maskedValue } from "#containerd/field-mask.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import { validateLabels } from "#containerd/labels.ts";
import type { AnyValue } from "./any.ts";

/** What the rules for containers look at. */
export interface ContainerFields<A extends AnyValue> {
  id: string;
  labels: Record<string, string>;
  image: string;
  runtime?: { name: string } | undefined;
  spec?: A | undefined;
  snapshotter: string;
  snapshotKey: string;
  extensions: Record<string, A>;
}

/** What an update without a mask takes over. @source containerd v2.3.4 core/metadata/containers.go `Update` */
const mutableFields = ["labels", "spec", "extensions", "image", "snapshotkey"];

/**
 * Checks a container that is about to be stored.
 *
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/metadata/containers.go `validateContainer`
 */
export function validateContainer(container: ContainerFields<AnyValue>): void {
  try {
    validateIdentifier(container.id);
  } catch (error) {
    throw wrapFailure(error, "container.ID");
  }
  if (Object.hasOwn(container.extensions, "")) {
    throw failure(ErrorKind.InvalidArgument, "container.Extension keys must not be zero-length");
  }
  validateLabels(container.labels, "containers.Labels");
  if ((container.runtime?.name ?? "") === "") {
    throw failure(ErrorKind.InvalidArgument, "container.Runtime.Name must be set");
  }
  if (container.spec === undefined) {
    throw failure(ErrorKind.InvalidArgument, "container.Spec must be set");
  }
  if (container.snapshotKey !== "" && container.snapshotter === "") {
    throw failure(ErrorKind.InvalidArgument, "container.Snapshotter must be set if container.SnapshotKey is set");
  }
}

/**
 * Changes a container as a request asks.
 *
 * @param stored - Changed in place; when this throws it is half changed and must be thrown away.
 * @param paths - Without any, all that may change is taken over, and what may not must be equal.
 * @param absentExtension - Value of an extension that the mask names and the request lacks.
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/metadata/containers.go `Update`
 */
export function updateContainer<A extends AnyValue>(
  stored: ContainerFields<A>,
  wanted: ContainerFields<A>,
  paths: readonly string[],
  absentExtension: A,
): void {
  if (paths.length === 0) {
    refuseChange("Snapshotter", stored.snapshotter, wanted.snapshotter);
    refuseChange("Runtime.Name", stored.runtime?.name ?? "", wanted.runtime?.name ?? "");
  }
  applyFieldMask(
    paths.length === 0 ? mutableFields : paths,
    {
      labels: maskedMap(stored, "labels", wanted.labels, ""),
      extensions: maskedMap(stored, "extensions", wanted.extensions, absentExtension),
      spec: maskedValue(stored, "spec", wanted),
      image: maskedValue(stored, "image", wanted),
      snapshotkey: maskedValue(stored, "snapshotKey", wanted),
    },
    (path) => failure(ErrorKind.InvalidArgument, `cannot update ${quote(path)} field on ${quote(stored.id)}`),
  );
  try {
    validateContainer(stored);
  } catch (error) {
    throw wrapFailure(error, "update failed validation");
  }
}

function refuseChange(field: string, stored: string, wanted: string): void {
  if (stored !== wanted) {
    throw failure(ErrorKind.InvalidArgument, `container.${field} field is immutable`);
  }
}
