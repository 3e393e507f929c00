import { ErrorKind, failure } from "#base/errors.ts";
import type { ImagePlatform } from "#containerd/platform.ts";
import type { ImageSelection } from "../domain/child-filter.ts";
import type { NamedImage, Naming } from "../domain/image-names.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { StoredImage } from "../store/images.ts";
import type { TransferContext } from "./transfer-context.ts";

/** Where an image shall be unpacked. */
export interface UnpackWish {
  readonly platform: ImagePlatform;
  /** "" for the default of the platform. */
  readonly snapshotter: string;
}

/** The daemon's images as one end of a transfer: how they are named, which parts are wanted, where they are unpacked. */
export interface ImageEnd extends Naming, ImageSelection {
  readonly unpacks: readonly UnpackWish[];
}

/** Records an image under names. @returns the records, in the order of the names. */
export async function recordImages(
  { images, signal }: TransferContext,
  target: Descriptor,
  names: readonly NamedImage[],
): Promise<StoredImage[]> {
  const recorded: StoredImage[] = [];
  for (const name of names) {
    recorded.push(await images.put(name, target, signal));
  }
  return recorded;
}

/**
 * The images that an end names, in its order.
 *
 * @throws {@link FlotillaError} `not_found` when one is not there; `not_implemented` when one is named by a prefix alone.
 * @source containerd v2.3.4 core/transfer/image/imagestore.go `Lookup`
 */
export async function lookUpImages(
  { images, signal }: TransferContext,
  { name, rules }: ImageEnd,
): Promise<StoredImage[]> {
  if (rules.some(({ isPrefix }) => isPrefix)) {
    throw failure(ErrorKind.NotImplemented, "prefix lookup on export not implemented");
  }
  const found: StoredImage[] = [];
  for (const wanted of [...(name === "" ? [] : [name]), ...rules.map((rule) => rule.name)]) {
    found.push(await images.get(wanted, signal));
  }
  return found;
}
