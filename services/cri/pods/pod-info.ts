import { fromBinary, toJson } from "@bufbuild/protobuf";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import type { Container } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import {
  type LinuxContainerResources,
  LinuxContainerResourcesSchema,
  PodSandboxConfigSchema,
} from "#gen/runtime/v1/api_pb.ts";
import { isNamespace } from "#linux/network-namespace.ts";
import { formatExactJson, parseExactJson } from "../containers/spec/exact-json.ts";
import { type CriPeers, criCall } from "../peers.ts";
import { toGoJson } from "../store/go-message.ts";
import type { Pod } from "../store/pod.ts";
import { podMetadataJson } from "../store/pod-record.ts";
import { versioned } from "../store/versioned-metadata.ts";

const processStates: Readonly<Record<number, string>> = {
  [Status.UNKNOWN]: "unknown",
  [Status.CREATED]: "created",
  [Status.RUNNING]: "running",
  [Status.STOPPED]: "stopped",
  [Status.PAUSED]: "paused",
  [Status.PAUSING]: "pausing",
};

/**
 * What only people read of a pod: one text of JSON.
 *
 * @source containerd v2.3.4 internal/cri/server/podsandbox/sandbox_status.go `toCRISandboxInfo`, types/sandbox_info.go
 */
export async function podInfo(peers: CriPeers, pod: Pod): Promise<Record<string, string>> {
  const [container, processStatus] = await Promise.all([pauseRecord(peers, pod.id), processState(peers, pod.id)]);
  const info = {
    pid: pod.pid,
    processStatus,
    netNamespaceClosed: pod.netnsPath !== "" && !isNamespace(pod.netnsPath),
    image: container?.image ?? "",
    snapshotKey: container?.snapshotKey ?? "",
    snapshotter: container?.snapshotter ?? "",
    runtimeType: container?.runtime?.name ?? "",
    runtimeOptions: optionsOf(container),
    config: toGoJson(PodSandboxConfigSchema, pod.config),
    runtimeSpec: container?.spec === undefined ? null : parseExactJson(Buffer.from(container.spec.value).toString()),
    cniResult: pod.network ?? null,
    sandboxMetadata: versioned(podMetadataJson(pod)),
    ...limits("overhead", pod.updatedResources?.overhead),
    ...limits("resources", pod.updatedResources?.resources),
  };
  return { info: formatExactJson(info) };
}

function limits(key: string, resources: LinuxContainerResources | undefined): Record<string, unknown> {
  return resources === undefined ? {} : { [key]: { linux: toGoJson(LinuxContainerResourcesSchema, resources) } };
}

function optionsOf(container: Container | undefined): unknown {
  const options = container?.runtime?.options;
  return options?.typeUrl === OptionsSchema.typeName
    ? toJson(OptionsSchema, fromBinary(OptionsSchema, options.value), { useProtoFieldName: true })
    : null;
}

async function pauseRecord({ containers }: CriPeers, id: string): Promise<Container | undefined> {
  return await unlessAbsent(async () => (await containers.get({ id }, criCall())).container);
}

async function processState({ tasks }: CriPeers, containerId: string): Promise<string> {
  const process = await unlessAbsent(async () => (await tasks.get({ containerId }, criCall())).process);
  return process === undefined ? "deleted" : (processStates[process.status] ?? "unknown");
}

async function unlessAbsent<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return undefined;
    }
    throw error;
  }
}
