import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { applyFieldMask, maskedMap } from "#containerd/field-mask.ts";
import { type Labels, validateLabels } from "#containerd/labels.ts";

/**
 * Changes the labels of a resource of which nothing else may change, a blob or a snapshot.
 *
 * @param what - What the resource is and how it is called, for the error: `content info`, `snapshot`.
 * @param paths - Of the update mask; none replaces all labels.
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/metadata/content.go, snapshot.go `Update`
 */
export function updateLabels(
  stored: { labels: Record<string, string> },
  wanted: Labels,
  paths: readonly string[],
  what: { readonly kind: string; readonly name: string },
): void {
  applyFieldMask(paths.length === 0 ? ["labels"] : paths, { labels: maskedMap(stored, "labels", wanted, "") }, (path) =>
    failure(ErrorKind.InvalidArgument, `cannot update ${quote(path)} field on ${what.kind} ${quote(what.name)}`),
  );
  validateLabels(stored.labels, "info.Labels");
}
