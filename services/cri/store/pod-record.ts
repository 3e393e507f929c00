import { create } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import {
  type LinuxContainerResources,
  LinuxContainerResourcesSchema,
  PodSandboxConfigSchema,
} from "#gen/runtime/v1/api_pb.ts";
import { formatExactJson, parseExactJson } from "../containers/spec/exact-json.ts";
import type { NetworkResult } from "../network/result.ts";
import { fromGoJson, toGoJson } from "./go-message.ts";
import type { Pod } from "./pod.ts";
import { decodeVersioned, encodeVersioned } from "./versioned-metadata.ts";

/** Key of the extension with {@link PodMetadata} on the record of the pause container. @source containerd v2.3.4 internal/cri/labels/labels.go */
export const podMetadataExtension = "io.cri-containerd.sandbox.metadata";
/** Key of the same on the record of the sandbox. @source containerd v2.3.4 internal/cri/server/podsandbox/helpers.go `MetadataKey` */
export const sandboxMetadataExtension = "metadata";
/** Key of the extension with limits that were changed. @source containerd v2.3.4 internal/cri/server/podsandbox/helpers.go `UpdatedResourcesKey` */
export const updatedResourcesExtension = "updated-resources";

const metadataTypeUrl = "github.com/containerd/cri/pkg/store/sandbox/Metadata";
const resourcesTypeUrl = "io.containerd.cri.v1/UpdatedResources";

/** What is known of a pod from its creation on. @source containerd v2.3.4 internal/cri/store/sandbox/metadata.go `Metadata` */
export type PodMetadata = Pick<
  Pod,
  "id" | "name" | "config" | "netnsPath" | "ip" | "additionalIps" | "runtimeHandler" | "network" | "processLabel"
>;

/** A pod's metadata as Go writes the structure. */
export function podMetadataJson(pod: PodMetadata): Record<string, unknown> {
  return {
    ID: pod.id,
    Name: pod.name,
    Config: toGoJson(PodSandboxConfigSchema, pod.config),
    NetNSPath: pod.netnsPath,
    IP: pod.ip,
    AdditionalIPs: pod.additionalIps.length === 0 ? null : pod.additionalIps,
    RuntimeHandler: pod.runtimeHandler,
    CNIResult: pod.network ?? null,
    ProcessLabel: pod.processLabel,
  };
}

/** Packs a pod's metadata as containerd does, so that it finds its pods again. */
export function encodePodMetadata(pod: PodMetadata): Any {
  return encodeVersioned(metadataTypeUrl, podMetadataJson(pod));
}

/**
 * Reads a pod's metadata, whoever of us and containerd wrote it.
 *
 * @throws {@link FlotillaError} `invalid_argument` when it is of another version or no metadata.
 */
export function decodePodMetadata(metadata: Pick<Any, "value">): PodMetadata {
  const written = decodeVersioned(metadata);
  const text = (key: string): string => (typeof written[key] === "string" ? written[key] : "");
  const { AdditionalIPs: more, CNIResult: network } = written;
  return {
    id: text("ID"),
    name: text("Name"),
    config: fromGoJson(PodSandboxConfigSchema, written["Config"] ?? {}),
    netnsPath: text("NetNSPath"),
    ip: text("IP"),
    additionalIps: Array.isArray(more) ? more.filter((address) => typeof address === "string") : [],
    runtimeHandler: text("RuntimeHandler"),
    network: typeof network === "object" && network !== null ? (network as NetworkResult) : undefined,
    processLabel: text("ProcessLabel"),
  };
}

/** Packs limits that were changed, as containerd does. @source containerd v2.3.4 internal/cri/server/podsandbox/helpers.go `UpdatedResources` */
export function encodeUpdatedResources({ overhead, resources }: NonNullable<Pod["updatedResources"]>): Any {
  const json = (limits: LinuxContainerResources | undefined): unknown =>
    limits === undefined ? null : toGoJson(LinuxContainerResourcesSchema, limits);
  const text = formatExactJson({ Overhead: json(overhead), Resources: json(resources) });
  return create(AnySchema, { typeUrl: resourcesTypeUrl, value: new Uint8Array(Buffer.from(text)) });
}

/** Reads limits that were changed. @throws {@link FlotillaError} `invalid_argument` */
export function decodeUpdatedResources({ value }: Pick<Any, "value">): NonNullable<Pod["updatedResources"]> {
  const written = parseExactJson(Buffer.from(value).toString("utf8")) as Record<string, unknown>;
  const read = (limits: unknown): LinuxContainerResources | undefined =>
    limits === null || limits === undefined ? undefined : fromGoJson(LinuxContainerResourcesSchema, limits);
  return { overhead: read(written["Overhead"]), resources: read(written["Resources"]) };
}
