import { create } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { type ContainerConfig, ContainerConfigSchema } from "#gen/runtime/v1/api_pb.ts";
import { formatExactJson, parseExactJson } from "../containers/spec/exact-json.ts";
import { fromGoJson, toGoJson } from "./go-message.ts";

/** Key of the record's extension that holds {@link ContainerMetadata}. @source containerd v2.3.4 internal/cri/labels/labels.go */
export const containerMetadataExtension = "io.cri-containerd.container.metadata";

/** @source containerd v2.3.4 internal/cri/server/container_create.go `init` */
const metadataTypeUrl = "github.com/containerd/cri/pkg/store/container/Metadata";

/** @source containerd v2.3.4 internal/cri/store/container/metadata.go `metadataVersion` */
const metadataVersion = "v1";

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
  const text = formatExactJson({
    Version: metadataVersion,
    Metadata: {
      ID: metadata.id,
      Name: metadata.name,
      SandboxID: metadata.podId,
      Config: toGoJson(ContainerConfigSchema, metadata.config),
      ImageRef: metadata.imageRef,
      LogPath: metadata.logPath,
      StopSignal: metadata.stopSignal,
      ProcessLabel: metadata.processLabel,
    },
  });
  return create(AnySchema, { typeUrl: metadataTypeUrl, value: new Uint8Array(Buffer.from(text)) });
}

/**
 * Reads a container's metadata, whoever of us and containerd wrote it.
 *
 * @throws {@link FlotillaError} `invalid_argument` when it is of another version or no metadata.
 */
export function decodeContainerMetadata({ value }: Pick<Any, "value">): ContainerMetadata {
  const { Version: version, Metadata: written } = parseExactJson(Buffer.from(value).toString("utf8")) as {
    Version?: unknown;
    Metadata?: Record<string, unknown>;
  };
  if (version !== metadataVersion || written === undefined) {
    throw failure(ErrorKind.InvalidArgument, `unsupported version: ${JSON.stringify(version ?? "")}`);
  }
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
