import { create } from "@bufbuild/protobuf";
import { ErrorKind, isFailure } from "#base/errors.ts";
import {
  ContainerState,
  type ContainerStatus,
  ContainerStatusSchema,
  type ImageSpec,
  ImageSpecSchema,
  Signal,
} from "#gen/runtime/v1/api_pb.ts";
import type { ImageStore } from "../images/image-store.ts";
import { partReferences } from "../images/local-image.ts";
import type { Container } from "../store/container.ts";
import { signalOfName } from "./spec/stop-signal.ts";

/**
 * A container as the kubelet is told of it.
 *
 * @param images - Tells what its image is called now.
 * @source containerd v2.3.4 internal/cri/server/container_status.go `toCRIContainerStatus`
 */
export function containerStatus(container: Container, images: Pick<ImageStore, "get">): ContainerStatus {
  const { metadata, status, state, facts } = container;
  const { config } = metadata;
  const { image, imageRef } = imageNames(container, images);
  const isOver = state === ContainerState.CONTAINER_EXITED || state === ContainerState.CONTAINER_UNKNOWN;
  const { user } = facts;
  return create(ContainerStatusSchema, {
    id: container.id,
    ...(config.metadata === undefined ? {} : { metadata: config.metadata }),
    state,
    createdAt: status.createdAtNs,
    startedAt: isOver || state === ContainerState.CONTAINER_RUNNING ? status.startedAtNs : 0n,
    finishedAt: isOver ? status.finishedAtNs : 0n,
    exitCode: status.exitCode,
    ...(image === undefined ? {} : { image }),
    imageRef,
    imageId: metadata.imageRef,
    reason: reasonOf(container),
    message: status.message,
    labels: config.labels,
    annotations: config.annotations,
    mounts: config.mounts,
    logPath: metadata.logPath,
    resources: status.resources === undefined ? {} : { linux: status.resources },
    user:
      user === undefined
        ? {}
        : {
            linux: {
              uid: BigInt(user.uid),
              gid: BigInt(user.gid),
              supplementalGroups: (user.additionalGids ?? []).map(BigInt),
            },
          },
    stopSignal: stopSignalOf(container),
  });
}

function reasonOf({ status, state }: Container): string {
  return status.reason === "" && state === ContainerState.CONTAINER_EXITED
    ? status.exitCode === 0
      ? "Completed"
      : "Error"
    : status.reason;
}

function stopSignalOf({ metadata }: Container): Signal {
  const { config, stopSignal } = metadata;
  if (config.stopSignal !== Signal.RUNTIME_DEFAULT) {
    return config.stopSignal;
  }
  return stopSignal === "" ? Signal.SIGTERM : signalOfName(stopSignal);
}

/** The image by its first tag, and by its first digest where it has one. */
function imageNames(
  { metadata }: Container,
  images: Pick<ImageStore, "get">,
): { readonly image: ImageSpec | undefined; readonly imageRef: string } {
  const { config, imageRef } = metadata;
  try {
    const { tags, digests } = partReferences(images.get(imageRef).references);
    const [tag] = tags;
    return {
      image: tag === undefined ? config.image : create(ImageSpecSchema, { image: tag }),
      imageRef: digests[0] ?? imageRef,
    };
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return { image: config.image, imageRef };
    }
    throw error;
  }
}
