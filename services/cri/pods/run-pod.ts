import { randomBytes } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { nanosecondsOf, wallClock } from "#base/times.ts";
import { together } from "#base/together.ts";
import {
  ContainerEventType,
  NamespaceMode,
  type PodSandboxConfig,
  PodSandboxConfigSchema,
  type RunPodSandboxRequest,
} from "#gen/runtime/v1/api_pb.ts";
import { releaseNamespace } from "#linux/network-namespace.ts";
import { makeMappedNamespaces, makePodNetworkNamespace, newNamespacePath } from "../network/pod-namespace.ts";
import { criCall } from "../peers.ts";
import { hasHostNetwork, type Pod } from "../store/pod.ts";
import { encodePodMetadata, sandboxMetadataExtension } from "../store/pod-record.ts";
import { makePauseRoot, recordPauseContainer, removePauseContainer } from "./pause-container.ts";
import { watchPod } from "./pod-exits.ts";
import { podName } from "./pod-name.ts";
import type { PodParts } from "./pod-parts.ts";
import { findRuntime } from "./pod-runtime.ts";
import { makePodFiles, podFiles, removePodFiles } from "./sandbox-files.ts";
import { Undo } from "./undo.ts";

const idBytes = 32;

/**
 * Runs a pod: its network, and the root file system of its pause container, are made side by side, and both are undone when anything fails. What can't be undone
 * stays in the table as a pod of unknown state, so that stopping and removing it tries again.
 *
 * Order of records: the sandbox with the path of its network namespace, before there is anything on the machine, so that a process that is
 * killed at any step leaves something that the next one finds.
 *
 * @param options.onNamed - Told of the id before anything is made.
 * @returns The id of the pod, which is ready.
 * @throws {@link FlotillaError} what went wrong, in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/sandbox_run.go `RunPodSandbox`
 */
export async function runPod(
  parts: PodParts,
  { config, runtimeHandler }: RunPodSandboxRequest,
  { signal, onNamed }: { readonly signal: AbortSignal; readonly onNamed: (id: string) => void },
): Promise<string> {
  const { names, pods, log } = parts;
  if (config?.metadata === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, "sandbox config must include metadata");
  }
  const id = randomBytes(idBytes).toString("hex");
  const name = podName(config.metadata);
  try {
    names.reserve(name, id);
  } catch (error) {
    throw wrapFailure(error, `failed to reserve sandbox name ${quote(name)}`);
  }
  onNamed(id);
  const undo = new Undo();
  let pod: Pod | undefined;
  try {
    pod = newPod(parts, { id, name, config, runtimeHandler });
    await bringUp(parts, pod, undo, signal);
    return id;
  } catch (error) {
    if (pod !== undefined) {
      pods.delete(id);
    }
    const isUndone = await undo.run(log, { pod: id });
    if (isUndone || pod === undefined) {
      names.release(id);
    } else {
      pod.state = "unknown";
      pods.add(pod);
    }
    throw error;
  }
}

function newPod(
  { settings }: PodParts,
  {
    id,
    name,
    config,
    runtimeHandler,
  }: { readonly id: string; readonly name: string; readonly config: PodSandboxConfig; readonly runtimeHandler: string },
): Pod {
  const runtime = findRuntime(settings, config, runtimeHandler, id);
  return {
    id,
    name,
    config,
    runtimeHandler,
    runtime,
    sandboxer: runtime.sandboxer,
    directory: `${settings.rootDirectory}/sandboxes/${id}`,
    stateDirectory: `${settings.stateDirectory}/sandboxes/${id}`,
    createdAtNs: wallClock(),
    netnsPath: hasHostNetwork(config) ? "" : newNamespacePath(settings.network.netnsDirectory),
    network: undefined,
    ip: "",
    additionalIps: [],
    processLabel: "",
    state: "unknown",
    pid: 0,
    endpoint: { address: "", version: 0 },
    exit: undefined,
    updatedResources: undefined,
    ended: new AbortController(),
  };
}

async function bringUp(parts: PodParts, pod: Pod, undo: Undo, signal: AbortSignal): Promise<void> {
  const { pods, observers, publish } = parts;
  await recordSandbox(parts, pod, undo, signal);
  await together([makeNetwork(parts, pod, undo, signal), makeSandbox(parts, pod, undo, signal)]);
  if (pod.sandboxer === "podsandbox") {
    undo.add("its label", () => Promise.resolve(parts.selinux.release(pod.processLabel)));
    await recordPauseContainer(parts, pod, signal);
  }
  const type = pod.runtime?.type ?? "";
  await together([
    parts.metrics.timed("sandbox_runtime_create", type, () => startSandbox(parts, pod, undo, signal)),
    recordNetwork(parts, pod, signal),
  ]);
  await observers.runPod(pod).catch((error: unknown) => {
    throw wrapFailure(error, "NRI RunPodSandbox failed");
  });
  undo.add("the announcement of the pod", () => observers.removePod(pod));
  signal.throwIfAborted();
  pod.state = "ready";
  pods.add(pod);
  publish(pod, ContainerEventType.CONTAINER_CREATED_EVENT);
  watchPod(parts, pod);
  publish(pod, ContainerEventType.CONTAINER_STARTED_EVENT);
}

/** Labels by which containerd knows a sandbox again. @source containerd v2.3.4 internal/cri/server/podsandbox/sandbox_run.go `Start` */
function sandboxLabels({ name, runtime, processLabel }: Pod): Record<string, string> {
  return { name, oci_runtime_type: runtime?.type ?? "", selinux_label: processLabel };
}

async function recordSandbox({ peers }: PodParts, pod: Pod, undo: Undo, signal: AbortSignal): Promise<void> {
  const { id, name, runtime } = pod;
  const options = runtime?.options;
  const sandbox = {
    sandboxId: id,
    sandboxer: pod.sandboxer,
    runtime: { name: runtime?.type ?? "", ...(options === undefined ? {} : { options }) },
    labels: { name },
    extensions: { [sandboxMetadataExtension]: encodePodMetadata(pod) },
  };
  // Undone even where they fail: a call whose answer is lost may have been carried out.
  undo.add("its record", () => ignoreAbsence(peers.sandboxes.delete({ sandboxId: id }, criCall())));
  await peers.sandboxes.create({ sandbox }, criCall({ signal })).catch((error: unknown) => {
    throw wrapFailure(error, "failed to save sandbox metadata");
  });
}

/** Adds to the record of a sandbox what is known of it since its network is made. */
async function recordNetwork({ peers }: PodParts, pod: Pod, signal: AbortSignal): Promise<void> {
  const sandbox = {
    sandboxId: pod.id,
    labels: sandboxLabels(pod),
    extensions: { [sandboxMetadataExtension]: encodePodMetadata(pod) },
  };
  await peers.sandboxes
    .update({ sandbox, fields: ["extensions", "labels"] }, criCall({ signal }))
    .catch((error: unknown) => {
      throw wrapFailure(error, `unable to save sandbox ${quote(pod.id)} to sandbox store`);
    });
}

async function makeNetwork(
  { settings, networks, metrics }: PodParts,
  pod: Pod,
  undo: Undo,
  signal: AbortSignal,
): Promise<void> {
  const { id, config, netnsPath } = pod;
  if (netnsPath === "") {
    return;
  }
  const startedMs = performance.now();
  const directory = settings.network.netnsDirectory;
  const users = config.linux?.securityContext?.namespaceOptions?.usernsOptions;
  undo.add("its network namespace", async () => {
    await releaseNamespace(netnsPath);
    await releaseNamespace(podFiles.userNamespace(pod));
  });
  try {
    if (users?.mode === NamespaceMode.POD) {
      await makeMappedNamespaces(users, { directory, network: netnsPath, user: podFiles.userNamespace(pod) });
    } else {
      await makePodNetworkNamespace(directory, netnsPath);
    }
  } catch (error) {
    throw wrapFailure(error, `failed to create network namespace for sandbox ${quote(id)}`);
  }
  undo.add("its network", async () => {
    try {
      await metrics.network("tear_down_pod", () => networks.tearDown(pod));
    } catch (error) {
      // What was never set up may not be there to be undone.
      if (pod.network !== undefined) {
        throw error;
      }
    }
  });
  try {
    const { result, ip, additionalIps } = await metrics.network("set_up_pod", () => networks.setUp(pod, signal));
    pod.network = result;
    pod.ip = ip;
    pod.additionalIps = additionalIps;
  } catch (error) {
    throw wrapFailure(error, `failed to setup network for sandbox ${quote(id)}`);
  }
  metrics.took("sandbox_create_network", startedMs);
}

/** Makes what the pod needs besides its network: a lease, files, and the image and root file system of its pause container. */
async function makeSandbox(parts: PodParts, pod: Pod, undo: Undo, signal: AbortSignal): Promise<void> {
  const { id, name } = pod;
  const { leases } = parts.peers;
  undo.add("its lease", () => ignoreAbsence(leases.delete({ id }, criCall())));
  await leases.create({ id }, criCall({ signal })).catch((error: unknown) => {
    throw wrapFailure(error, `failed to create lease for sandbox name ${quote(name)}`);
  });
  undo.add("its files", () => removePodFiles(pod));
  await makePodFiles(pod);
  if (pod.sandboxer === "podsandbox") {
    undo.add("its pause container", () => removePauseContainer(parts, pod));
    await makePauseRoot(parts, pod, signal);
  }
}

async function startSandbox({ peers }: PodParts, pod: Pod, undo: Undo, signal: AbortSignal): Promise<void> {
  const { id, sandboxer, runtime } = pod;
  const options = runtime?.options;
  undo.add("its sandbox", () => ignoreAbsence(peers.controller.shutdown({ sandboxId: id, sandboxer }, criCall())));
  const packed = create(AnySchema, {
    typeUrl: PodSandboxConfigSchema.typeName,
    value: toBinary(PodSandboxConfigSchema, pod.config),
  });
  await peers.controller
    .create(
      {
        sandboxId: id,
        sandboxer,
        options: packed,
        netnsPath: pod.netnsPath,
        sandbox: {
          sandboxId: id,
          sandboxer,
          runtime: { name: runtime?.type ?? "", ...(options === undefined ? {} : { options }) },
          extensions: { [sandboxMetadataExtension]: encodePodMetadata(pod) },
        },
      },
      criCall({ signal }),
    )
    .catch((error: unknown) => {
      throw wrapFailure(error, `failed to create sandbox ${quote(id)}`);
    });
  const started = await peers.controller.start({ sandboxId: id, sandboxer }, criCall({ signal }));
  pod.pid = started.pid;
  if (started.createdAt !== undefined) {
    pod.createdAtNs = nanosecondsOf(started.createdAt);
  }
  pod.endpoint = { address: started.address, version: started.version };
}

async function ignoreAbsence(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!isFailure(error, ErrorKind.NotFound)) {
      throw error;
    }
  }
}
