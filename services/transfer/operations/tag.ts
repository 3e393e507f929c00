import { namesFor } from "../domain/image-names.ts";
import { type ImageEnd, recordImages } from "./image-end.ts";
import type { TransferContext } from "./transfer-context.ts";

/** Gives an image that is there further names. @source containerd v2.3.4 core/transfer/local/tag.go */
export async function tagImage(context: TransferContext, source: ImageEnd, destination: ImageEnd): Promise<void> {
  const { target } = await context.images.get(source.name, context.signal);
  await recordImages(context, target, namesFor(target, destination, new Date()));
}
