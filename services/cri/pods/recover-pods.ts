import { readdir, rm } from "node:fs/promises";
import { ErrorKind, errorMessage, isFailure, systemErrorCode } from "#base/errors.ts";
import { nanosecondsOf } from "#base/times.ts";
import type { Container } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import type { Sandbox } from "#gen/containerd/types/sandbox_pb.ts";
import { unmountRecursive } from "#linux/unmount.ts";
import { criCall } from "../peers.ts";
import type { Pod, PodState } from "../store/pod.ts";
import {
  decodePodMetadata,
  decodeUpdatedResources,
  type PodMetadata,
  podMetadataExtension,
  sandboxMetadataExtension,
  updatedResourcesExtension,
} from "../store/pod-record.ts";
import { kindLabel } from "../store/record-labels.ts";
import { watchPod } from "./pod-exits.ts";
import type { PodParts } from "./pod-parts.ts";

/** How long the state of one sandbox may take to be told. @source containerd v2.3.4 internal/cri/server/podsandbox/recover.go `loadContainerTimeout` */
const stateMsMax = 10_000;
/** How many sandboxes are asked together. */
const parallelMax = 16;

/**
 * Finds the pods again that this process, a former one or containerd has made, from the records of sandboxes and of pause containers.
 * A sandbox that has no pause container was being made or removed when its process was killed: it is a pod of unknown state, which the kubelet
 * stops and removes.
 *
 * @throws {@link FlotillaError} when the records can't be read.
 * @source containerd v2.3.4 internal/cri/server/restart.go `recover`, internal/cri/server/podsandbox/recover.go
 */
export async function recoverPods(parts: PodParts): Promise<void> {
  const { peers, stopping } = parts;
  const filters = [`labels."${kindLabel}"==sandbox`];
  const [{ containers }, { list: sandboxes }] = await Promise.all([
    peers.containers.list({ filters }, criCall({ signal: stopping })),
    peers.sandboxes.list({}, criCall({ signal: stopping })),
  ]);
  const byId = new Map<string, { container?: Container; sandbox?: Sandbox }>();
  for (const sandbox of sandboxes) {
    byId.set(sandbox.sandboxId, { sandbox });
  }
  for (const container of containers) {
    byId.set(container.id, { ...byId.get(container.id), container });
  }
  const waiting = [...byId.entries()];
  await Promise.all(
    Array.from({ length: parallelMax }, async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        await recoverPod(parts, ...next);
      }
    }),
  );
  const known = new Set(byId.keys());
  for (const directory of [parts.settings.rootDirectory, parts.settings.stateDirectory]) {
    await removeStrays(parts, `${directory}/sandboxes`, known);
  }
}

async function recoverPod(
  parts: PodParts,
  id: string,
  { container, sandbox }: { readonly container?: Container; readonly sandbox?: Sandbox },
): Promise<void> {
  const { pods, names, log } = parts;
  try {
    const packed = sandbox?.extensions[sandboxMetadataExtension] ?? container?.extensions[podMetadataExtension];
    if (packed === undefined) {
      // Sandboxes of other clients of this namespace are none of ours.
      return;
    }
    const pod = await foundPod(parts, decodePodMetadata(packed), { container, sandbox });
    pods.add(pod);
    names.reserve(pod.name, id);
    parts.selinux.reserve(pod.processLabel);
    if (pod.state !== "notready") {
      watchPod(parts, pod);
    }
  } catch (error) {
    log.error({ pod: id, err: error }, `a pod is not found again: ${errorMessage(error)}`);
  }
}

async function foundPod(
  parts: PodParts,
  metadata: PodMetadata,
  { container, sandbox }: { readonly container?: Container | undefined; readonly sandbox?: Sandbox | undefined },
): Promise<Pod> {
  const { settings } = parts;
  const { id } = metadata;
  const sandboxer = sandbox?.sandboxer || "podsandbox";
  const createdAt = container?.createdAt ?? sandbox?.createdAt;
  const updated = sandbox?.extensions[updatedResourcesExtension];
  const handler = metadata.runtimeHandler || settings.defaultRuntimeName;
  const isHalf = sandboxer === "podsandbox" && container === undefined;
  const found = isHalf
    ? { state: "unknown" as const, pid: 0, endpoint: { address: "", version: 0 } }
    : await stateOf(parts, id, sandboxer);
  return {
    ...metadata,
    ...found,
    runtime: settings.runtimes.get(handler),
    sandboxer,
    directory: `${settings.rootDirectory}/sandboxes/${id}`,
    stateDirectory: `${settings.stateDirectory}/sandboxes/${id}`,
    createdAtNs: createdAt === undefined ? 0n : nanosecondsOf(createdAt),
    exit: undefined,
    updatedResources: updated === undefined ? undefined : decodeUpdatedResources(updated),
    ended: found.state === "notready" ? abortedController() : new AbortController(),
  };
}

async function stateOf(
  { peers, log }: PodParts,
  id: string,
  sandboxer: string,
): Promise<{ readonly state: PodState; readonly pid: number; readonly endpoint: Pod["endpoint"] }> {
  try {
    const told = await peers.controller.status({ sandboxId: id, sandboxer }, criCall({ timeoutMs: stateMsMax }));
    return {
      state: told.state === "SANDBOX_READY" ? "ready" : "notready",
      pid: told.pid,
      endpoint: { address: told.address, version: told.version },
    };
  } catch (error) {
    const isGone = isFailure(error, ErrorKind.NotFound);
    if (!isGone) {
      log.error({ pod: id, err: error }, "failed to recover sandbox state");
    }
    return { state: isGone ? "notready" : "unknown", pid: 0, endpoint: { address: "", version: 0 } };
  }
}

function abortedController(): AbortController {
  const controller = new AbortController();
  controller.abort();
  return controller;
}

/** Removes directories of pods that are not on record any more. @source containerd v2.3.4 internal/cri/server/restart.go `cleanupOrphanedIDDirs` */
async function removeStrays({ log }: PodParts, directory: string, known: ReadonlySet<string>): Promise<void> {
  let names: readonly string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return;
    }
    throw error;
  }
  for (const name of names.filter((candidate) => !known.has(candidate))) {
    try {
      await unmountRecursive(`${directory}/${name}`, { detach: true });
      await rm(`${directory}/${name}`, { recursive: true, force: true });
    } catch (error) {
      log.warn({ path: `${directory}/${name}`, err: error }, "what a pod has left is not removed");
    }
  }
}
