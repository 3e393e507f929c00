import { randomBytes } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { wallClock } from "#base/times.ts";
import { together } from "#base/together.ts";
import {
  type ContainerConfig,
  ContainerEventType,
  type CreateContainerRequest,
  type PodSandboxConfig,
} from "#gen/runtime/v1/api_pb.ts";
import { refuseCheckpoint } from "../checkpoint/refuse-checkpoint.ts";
import type { LocalImage } from "../images/local-image.ts";
import { prepareRoot, remapLabels, removeRoot } from "../images/prepare-root.ts";
import { openContainerIo } from "../logs/container-io.ts";
import { criCall } from "../peers.ts";
import { Container, type ContainerStatusRecord, unknownStatus, writeStatus } from "../store/container.ts";
import {
  type ContainerMetadata,
  containerMetadataExtension,
  encodeContainerMetadata,
} from "../store/container-record.ts";
import type { Pod } from "../store/pod.ts";
import { recordLabels } from "../store/record-labels.ts";
import type { ContainerParts } from "./container-parts.ts";
import { imageVolumes } from "./host-mounts.ts";
import { mountImages } from "./image-volumes.ts";
import { makeSpec } from "./make-spec.ts";
import { formatExactJson } from "./spec/exact-json.ts";
import { hasOwnUsers, userMappings } from "./spec/namespaces.ts";
import type { OciSpec } from "./spec/oci-spec.ts";
import { resourcesOf } from "./spec/resources.ts";
import { signalName } from "./spec/stop-signal.ts";
import { fillVolumes } from "./volume-content.ts";

/** How containerd calls a specification of version 1. @source containerd/typeurl v2; containerd v2.3.4 client/client.go `init` */
export const specTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/**
 * Makes a container in a pod, without starting it: its root file system, its specification, its pipes, its record. What fails leaves nothing.
 *
 * @param options.onNamed - Told of the id before anything is made.
 * @returns Its id.
 * @throws {@link FlotillaError} in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/container_create.go `CreateContainer`
 */
export async function createContainer(
  parts: ContainerParts,
  request: CreateContainerRequest,
  { signal, onNamed }: { readonly signal: AbortSignal; readonly onNamed: (id: string) => void },
): Promise<string> {
  const pod = findPod(parts, request.podSandboxId);
  const { config, sandboxConfig } = request;
  if (pod.state !== "ready") {
    throw new FlotillaError(ErrorKind.Unknown, `sandbox container ${quote(pod.id)} is not running`);
  }
  if (config?.metadata === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, "container config must include metadata");
  }
  if (sandboxConfig?.metadata === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, "pod sandbox config must include metadata");
  }
  signalName(config.stopSignal);
  const id = randomBytes(32).toString("hex");
  const name = containerName(config, sandboxConfig);
  try {
    parts.names.reserve(name, id);
  } catch (error) {
    throw wrapFailure(
      error,
      `failed to reserve container name ${quote(name)}; check if another CreateContainer request is in progress`,
    );
  }
  await using undo = new AsyncDisposableStack();
  undo.defer(() => parts.names.release(id));
  onNamed(id);
  await refuseCheckpoint(parts.settings, config.image?.image ?? "");
  const image = resolveImage(parts, config.image?.image ?? "");
  const making = { id, name, pod, config, sandboxConfig, image, signal };
  await parts.observers.during(() => make(parts, making, undo));
  undo.move();
  parts.events.publish(id, pod.id, ContainerEventType.CONTAINER_CREATED_EVENT);
  return id;
}

interface Making {
  readonly id: string;
  readonly name: string;
  readonly pod: Pod;
  readonly config: ContainerConfig;
  readonly sandboxConfig: PodSandboxConfig;
  readonly image: LocalImage;
  readonly signal: AbortSignal;
}

async function make(parts: ContainerParts, making: Making, undo: AsyncDisposableStack): Promise<void> {
  const { peers, settings, images } = parts;
  const { id, pod, config, image, signal } = making;
  const runtime = pod.runtime;
  if (runtime === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to find runtime handler ${quote(pod.runtimeHandler)}`);
  }
  const directory = `${settings.rootDirectory}/containers/${id}`;
  const stateDirectory = `${settings.stateDirectory}/containers/${id}`;
  for (const path of [directory, stateDirectory]) {
    undo.defer(() => rm(path, { recursive: true, force: true }));
    await mkdir(path, { recursive: true, mode: 0o755 });
  }
  const snapshotter = runtime.snapshotter || images.settings.snapshotter;
  const volumes = settings.ignoreImageDefinedVolumes
    ? []
    : imageVolumes(image.config.volumes, config, { directory, newId: () => randomBytes(32).toString("hex") });
  undo.defer(() => removeRoot(peers, { key: id, snapshotter }));
  const rootMounts = await prepareRoot(
    { peers, store: images.store },
    { key: id, image, snapshotter, lease: pod.id, labels: ownerLabels(config), signal },
  );
  await fillVolumes(volumes, rootMounts, `${settings.stateDirectory}/tmpmounts`);
  const labels = ownerLabels(config);
  const mounted = await mountImages(parts, config, { pod, snapshotter, labels, signal });
  const selinux = parts.selinux.make(config.linux?.securityContext?.selinuxOptions, pod.processLabel);
  undo.defer(() => parts.selinux.release(selinux.process));
  const spec = await makeSpec(parts, {
    ...making,
    labels: selinux,
    config: mounted,
    runtime,
    rootMounts,
    volumes: volumes.map(({ mount }) => mount),
  });
  const io = await openContainerIo({
    id,
    stateDirectory,
    tty: config.tty,
    stdin: config.stdin,
    onLogFailure: (error) => parts.log.warn({ container: id, err: error }, "entries of a log are lost"),
  });
  undo.defer(() => io.close());
  undo.defer(() => parts.observers.undoCreate(making));
  await observed(parts, making, spec);
  const metadata = metadataOf(making, selinux.process);
  const status: ContainerStatusRecord = {
    ...unknownStatus,
    createdAtNs: wallClock(),
    exitCode: 0,
    reason: "",
    unknown: false,
    resources: resourcesOf(spec),
  };
  undo.defer(() => deleteRecord(parts, id));
  const [record] = await together([
    recordContainer(parts, making, { spec, metadata, snapshotter }),
    writeStatus(directory, status),
  ]);
  const container = new Container(
    { metadata, directory, stateDirectory, runtime: record, snapshotter, user: spec.process?.user, rootMounts },
    status,
  );
  container.io = io;
  parts.containers.add(container);
  await parts.observers.created(container);
}

/** @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go `WithContainerAdjustment` */
async function observed({ observers }: ContainerParts, making: Making, spec: OciSpec): Promise<void> {
  try {
    await observers.create(making, spec);
  } catch (error) {
    throw wrapFailure(error, "failed to create containerd container: failed to get NRI adjustment for container");
  }
}

function findPod({ pods }: ContainerParts, id: string): Pod {
  try {
    return pods.get(id);
  } catch (error) {
    throw wrapFailure(error, `failed to find sandbox id ${quote(id)}`);
  }
}

function resolveImage({ images }: ContainerParts, reference: string): LocalImage {
  try {
    return images.store.resolve(reference);
  } catch (error) {
    throw wrapFailure(error, `failed to resolve image ${quote(reference)}`);
  }
}

/** @source containerd v2.3.4 internal/cri/server/helpers.go `makeContainerName` */
function containerName({ metadata: own }: ContainerConfig, { metadata: pod }: PodSandboxConfig): string {
  return [own?.name, pod?.name, pod?.namespace, pod?.uid, own?.attempt ?? 0].join("_");
}

function ownerLabels(config: ContainerConfig): Record<string, string> {
  const options = config.linux?.securityContext?.namespaceOptions;
  if (!hasOwnUsers(options)) {
    return {};
  }
  const { uids, gids } = userMappings(options?.usernsOptions);
  return remapLabels({ uid: uids[0]?.hostID ?? 0, gid: gids[0]?.hostID ?? 0, size: uids[0]?.size ?? 0 });
}

function metadataOf({ id, name, pod, config, sandboxConfig, image }: Making, processLabel: string): ContainerMetadata {
  const { logDirectory } = sandboxConfig;
  return {
    id,
    name,
    podId: pod.id,
    config,
    imageRef: image.id,
    logPath:
      logDirectory === "" || config.logPath === "" ? "" : `${logDirectory.replace(/\/+$/, "")}/${config.logPath}`,
    stopSignal: signalName(config.stopSignal) || image.config.stopSignal,
    processLabel,
  };
}

/** Records the container, with the runtime of its pod. */
async function recordContainer(
  { peers }: ContainerParts,
  { id, pod, config, image, signal }: Making,
  {
    spec,
    metadata,
    snapshotter,
  }: { readonly spec: OciSpec; readonly metadata: ContainerMetadata; readonly snapshotter: string },
): Promise<Container["facts"]["runtime"]> {
  const { type = "", options } = pod.runtime ?? {};
  await peers.containers
    .create(
      {
        container: {
          id,
          labels: recordLabels(config.labels, image.config.labels, "container"),
          image: image.references[0] ?? "",
          runtime: { name: type, ...(options === undefined ? {} : { options }) },
          spec: { typeUrl: specTypeUrl, value: new Uint8Array(Buffer.from(formatExactJson(spec))) },
          snapshotter,
          snapshotKey: id,
          extensions: { [containerMetadataExtension]: encodeContainerMetadata(metadata) },
          sandbox: pod.id,
        },
      },
      criCall({ signal }),
    )
    .catch((error: unknown) => {
      throw wrapFailure(error, "failed to create containerd container");
    });
  return { name: type, options };
}

/** Removes the record of a container. One that is not there is no error. */
export async function deleteRecord({ peers }: Pick<ContainerParts, "peers">, id: string): Promise<void> {
  try {
    await peers.containers.delete({ id }, criCall());
  } catch (error) {
    if (!isFailure(error, ErrorKind.NotFound)) {
      throw error;
    }
  }
}
