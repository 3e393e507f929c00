import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, isFailure, wrapFailure } from "#base/errors.ts";
import type { Changes } from "#fleet/calls/changes.ts";
import {
  type FilesystemUsageSchema,
  ImageSchema,
  ImageService,
  type ImageStatusResponseSchema,
} from "#gen/runtime/v1/api_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { carriedOutOnce } from "../calls/carried-out-once.ts";
import type { ImagePuller } from "../images/image-puller.ts";
import type { ImageStore } from "../images/image-store.ts";
import { imageUser, type LocalImage, partReferences } from "../images/local-image.ts";
import type { SnapshotUsages } from "../images/snapshot-usage.ts";
import { ListedForms } from "../store/listed-forms.ts";
import type { Gate } from "./gate.ts";

/** How many images one piece of a list has. */
const pieceLength = 100;

/** An image that changes is another object. */
const listedImages = new ListedForms((image: LocalImage) =>
  toBinary(ImageSchema, create(ImageSchema, describeImage(image))),
);

export interface ImageServiceParts {
  readonly store: ImageStore;
  readonly puller: ImagePuller;
  readonly usages: SnapshotUsages;
  /** The snapshotter that the kubelet looks at. */
  readonly snapshotter: string;
  readonly rootOf: (snapshotter: string) => string;
}

/**
 * The kubelet's images.
 *
 * @source containerd v2.3.4 internal/cri/server/images
 */
export function imageService(parts: ImageServiceParts, gate: Gate, changes: Changes): ServiceBinding {
  const { store, puller } = parts;
  const handlers = {
    listImages: () => listedImages.list(store.all()),
    streamImages: async function* () {
      yield* listedImages.pieces(store.all(), pieceLength);
    },
    imageStatus: ({ image, verbose }) => imageStatus(store, image?.image ?? "", verbose),
    pullImage: async ({ image, auth, sandboxConfig }, { signal }) => {
      const runtimeHandler = image?.runtimeHandler ?? "";
      const { id } = await puller.pull(image?.image ?? "", {
        auth,
        podConfig: sandboxConfig,
        runtimeHandler,
        signal,
      });
      return { imageRef: id };
    },
    removeImage: async ({ image }, { signal }) => {
      await store.remove(image?.image ?? "", signal);
      return {};
    },
    imageFsInfo: () => ({ imageFilesystems: imageFilesystems(parts) }),
  } satisfies Handlers<typeof ImageService>;
  return bindService(
    ImageService,
    gate.guard(ImageService, carriedOutOnce(ImageService, handlers, ["pullImage", "removeImage"], changes)),
  );
}

function imageStatus(
  store: ImageStore,
  reference: string,
  isVerbose: boolean,
): MessageInitShape<typeof ImageStatusResponseSchema> {
  let image: LocalImage;
  try {
    image = store.resolve(reference);
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return {};
    }
    throw wrapFailure(error, `can not resolve ${JSON.stringify(reference)} locally`);
  }
  const info = { info: JSON.stringify({ chainID: image.chainId, imageSpec: image.document }) };
  return { image: describeImage(image), ...(isVerbose ? { info } : {}) };
}

/** An image as the kubelet is told of it. @source containerd v2.3.4 internal/cri/server/images/image_status.go `toCRIImage` */
function describeImage({
  id,
  references,
  sizeBytes,
  isPinned,
  config,
}: LocalImage): MessageInitShape<typeof ImageSchema> {
  const { tags, digests } = partReferences(references);
  const { uid, username } = imageUser(config.user);
  return {
    id,
    repoTags: tags,
    repoDigests: digests,
    size: sizeBytes,
    pinned: isPinned,
    username,
    ...(uid === undefined ? {} : { uid: { value: uid } }),
  };
}

/** What images take, the default snapshotter first, since the kubelet looks at the first. @source containerd v2.3.4 internal/cri/server/images/imagefs_info.go */
function imageFilesystems({
  usages,
  snapshotter,
  rootOf,
}: ImageServiceParts): MessageInitShape<typeof FilesystemUsageSchema>[] {
  const sums = usages.sums();
  const names = [snapshotter, ...[...sums.keys()].filter((name) => name !== snapshotter)];
  return names.map((name) => {
    const sum = sums.get(name);
    return {
      timestamp: sum?.timestampNs ?? BigInt(Date.now()) * 1_000_000n,
      fsId: { mountpoint: rootOf(name) },
      usedBytes: { value: sum?.sizeBytes ?? 0n },
      inodesUsed: { value: sum?.inodes ?? 0n },
    };
  });
}
