import type { Any } from "@bufbuild/protobuf/wkt";
import { type ContainerConfig, ContainerConfigSchema } from "#gen/runtime/v1/api_pb.ts";
import { fromGoJson, toGoJson } from "./go-message.ts";
import { decodeVersioned, encodeVersioned } from "./versioned-metadata.ts";

/** Key of the record's extension that holds {@link ContainerMetadata}. @source containerd v2.3.4 internal/cri/labels/labels.go */
export const containerMetadataExtension = "io.cri-containerd.container.metadata";

/** @source containerd v2.3.4 internal/cri/server/container_create.go `init` */
const metadataTypeUrl = "github.com/containerd/cri/pkg/store/container/Metadata";

/** What is known of a container from its creation on, kept on its record. @source containerd v2.3.4 internal/cri/store/container/metadata.go `Metadata` */
export interface ContainerMetadata {
  readonly id: string;
  /** Of its pod and itself, unique on this machine. */
  readonly name: string;
  readonly podId: string;
  readonly config: ContainerConfig;
  /** Id of its image. */
  readonly imageRef: string;
  /** Path of its log, or "". */
  readonly logPath: string;
  /** Name of the signal that ends it, or "" for the runtime's own. */
  readonly stopSignal: string;
  /** SELinux label of its process, or "". */
  readonly processLabel: string;
}

/** Packs a container's metadata as containerd does, so that it finds its containers again. */
export function encodeContainerMetadata(metadata: ContainerMetadata): Any {
  return encodeVersioned(metadataTypeUrl, {
    ID: metadata.id,
    Name: metadata.name,
    SandboxID: metadata.podId,
    Config: toGoJson(ContainerConfigSchema, metadata.config),
    ImageRef: metadata.imageRef,
    LogPath: metadata.logPath,
    StopSignal: metadata.stopSignal,
    ProcessLabel: metadata.processLabel,
  });
}

/**
 * Reads a container's metadata, whoever of us and containerd wrote it.
 *
 * @throws {@link FlotillaError} `invalid_argument` when it is of another version or no metadata.
 */
export function decodeContainerMetadata(metadata: Pick<Any, "value">): ContainerMetadata {
  const written = decodeVersioned(metadata);
  const text = (key: string): string => (typeof written[key] === "string" ? written[key] : "");
  return {
    id: text("ID"),
    name: text("Name"),
    podId: text("SandboxID"),
    config: fromGoJson(ContainerConfigSchema, written["Config"] ?? {}),
    imageRef: text("ImageRef"),
    logPath: text("LogPath"),
    stopSignal: text("StopSignal"),
    processLabel: text("ProcessLabel"),
  };
}
