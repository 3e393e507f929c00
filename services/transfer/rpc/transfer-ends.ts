import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { platformFrom } from "#containerd/platform.ts";
import { type ImageStore, ImageStoreSchema } from "#gen/containerd/types/transfer/imagestore_pb.ts";
import {
  type ImageExportStream,
  ImageExportStreamSchema,
  type ImageImportStream,
  ImageImportStreamSchema,
} from "#gen/containerd/types/transfer/importexport_pb.ts";
import { type OCIRegistry, OCIRegistrySchema } from "#gen/containerd/types/transfer/registry_pb.ts";
import type { ImageEnd } from "../operations/image-end.ts";
import { type TypedMessage, typeNameOf, unpackMessage } from "../streams/any.ts";

/** One end of a transfer, as a client writes it. */
export type TransferEnd =
  | { readonly kind: "registry"; readonly registry: OCIRegistry }
  | { readonly kind: "store"; readonly store: ImageEnd }
  | { readonly kind: "import"; readonly archive: ImageImportStream }
  | { readonly kind: "export"; readonly archive: ImageExportStream }
  /** A message that no transfer is about. */
  | { readonly kind: "other" };

/**
 * Reads an end of a transfer.
 *
 * @throws {@link FlotillaError} `unknown` when nobody knows its type, in containerd's words, or when it is no message of its type.
 * @source containerd v2.3.4 plugins/services/transfer/service.go `convertAny`
 */
export async function readTransferEnd(message: TypedMessage | undefined): Promise<TransferEnd> {
  const { typeUrl, value } = message ?? { typeUrl: "", value: new Uint8Array() };
  switch (typeNameOf(typeUrl)) {
    case OCIRegistrySchema.typeName:
      return { kind: "registry", registry: unpackMessage(OCIRegistrySchema, { typeUrl, value }) };
    case ImageStoreSchema.typeName:
      return { kind: "store", store: imageEnd(unpackMessage(ImageStoreSchema, { typeUrl, value })) };
    case ImageImportStreamSchema.typeName:
      return { kind: "import", archive: unpackMessage(ImageImportStreamSchema, { typeUrl, value }) };
    case ImageExportStreamSchema.typeName:
      return { kind: "export", archive: unpackMessage(ImageExportStreamSchema, { typeUrl, value }) };
    default:
      await requireKnown(typeUrl);
      return { kind: "other" };
  }
}

async function requireKnown(typeUrl: string): Promise<void> {
  const { typeRegistry } = await import("#wire/connect/type-registry.ts");
  if (typeRegistry.getMessage(typeNameOf(typeUrl)) === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `type with url ${typeUrl}: not found`);
  }
}

function imageEnd(store: ImageStore): ImageEnd {
  return {
    name: store.name,
    labels: store.labels,
    platforms: store.platforms.map(platformFrom),
    allMetadata: store.allMetadata,
    manifestLimit: store.manifestLimit,
    rules: store.extraReferences,
    unpacks: store.unpacks.map(({ platform, snapshotter }) => ({
      platform: platformFrom(platform ?? {}),
      snapshotter,
    })),
  };
}
