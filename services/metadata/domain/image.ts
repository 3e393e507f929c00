import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { findDigestFault } from "#containerd/digest.ts";
import { applyFieldMask, maskedMap } from "#containerd/field-mask.ts";
import { validateLabels } from "#containerd/labels.ts";

/** What the rules for images look at. */
export interface ImageFields<D extends DescriptorFields> {
  name: string;
  labels: Record<string, string>;
  target?: D | undefined;
}

export interface DescriptorFields {
  mediaType: string;
  digest: string;
  size: bigint;
  annotations: Record<string, string>;
}

/**
 * Checks an image that is about to be stored. Its name may be any text.
 *
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/metadata/images.go `validateImage`, `validateTarget`
 */
export function validateImage(image: ImageFields<DescriptorFields>): void {
  if (image.name === "") {
    throw failure(ErrorKind.InvalidArgument, "image name must not be empty");
  }
  validateLabels(image.labels, "image.Labels");
  const digest = image.target?.digest ?? "";
  const fault = findDigestFault(digest);
  if (fault !== undefined) {
    throw failure(ErrorKind.InvalidArgument, `target.Digest ${quote(digest)} invalid: ${fault}`);
  }
  if ((image.target?.size ?? 0n) <= 0n) {
    throw failure(ErrorKind.InvalidArgument, "target.Size must be greater than zero");
  }
  if ((image.target?.mediaType ?? "") === "") {
    throw failure(ErrorKind.InvalidArgument, "target.MediaType must be set");
  }
}

/**
 * Changes an image as a request asks. The target changes as a unit, but for its annotations.
 *
 * @param stored - Changed in place; when this throws it is half changed and must be thrown away.
 * @param paths - Without any, labels and target are taken over whole.
 * @throws {@link FlotillaError} `invalid_argument` with containerd's text.
 * @source containerd v2.3.4 core/metadata/images.go `Update`
 */
export function updateImage<D extends DescriptorFields>(
  stored: ImageFields<D>,
  wanted: ImageFields<D>,
  paths: readonly string[],
): void {
  const annotations = (): Required<ReturnType<typeof maskedMap>> =>
    maskedMap(stored.target ?? { annotations: {} }, "annotations", wanted.target?.annotations ?? {}, "");
  applyFieldMask(
    paths.length === 0 ? ["labels", "target"] : paths,
    {
      labels: maskedMap(stored, "labels", wanted.labels, ""),
      annotations: {
        replace: () => annotations().replace(),
        replaceEntry: (key) => annotations().replaceEntry(key),
      },
      target: {
        replace: () => {
          stored.target = wanted.target === undefined ? undefined : { ...wanted.target };
        },
      },
    },
    (path) => failure(ErrorKind.InvalidArgument, `cannot update ${quote(path)} field on image ${quote(stored.name)}`),
  );
  validateImage(stored);
}
