import { create } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, isFailure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { together } from "#base/together.ts";
import { inheritedLabels } from "#containerd/labels.ts";
import { formatExactJson } from "../containers/spec/exact-json.ts";
import { hasOwnUsers, userMappings } from "../containers/spec/namespaces.ts";
import { criCall } from "../peers.ts";
import type { Labels } from "../selinux/selinux.ts";
import type { Pod } from "../store/pod.ts";
import { encodePodMetadata, podMetadataExtension } from "../store/pod-record.ts";
import { recordLabels } from "../store/record-labels.ts";
import type { PodParts } from "./pod-parts.ts";
import { sandboxSpec } from "./sandbox-spec.ts";

/** @source containerd/typeurl v2, the type of OCI specifications */
const specTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/**
 * Makes the root file system of the pause container of a pod; its image is pulled where it is not there.
 *
 * @throws {@link FlotillaError} in containerd's words. {@link removePauseContainer} undoes what was made.
 * @source containerd v2.3.4 internal/cri/server/podsandbox/sandbox_run.go `Start`
 */
export async function makePauseRoot(parts: PodParts, pod: Pod, signal: AbortSignal): Promise<void> {
  const { id, config } = pod;
  try {
    const image = await parts.images.ensurePause(config, pod.runtimeHandler, signal);
    const labels = { ...inheritedLabels(config.annotations), ...remapLabelsOf(pod) };
    await image.makeRoot(id, { snapshotter: snapshotterOf(parts, pod), labels, signal });
  } catch (error) {
    throw wrapFailure(error, `failed to start sandbox ${quote(id)}`);
  }
}

/**
 * Puts the pause container of a pod, whose network is made, on record with its specification, so that the sandbox can be started.
 *
 * @throws {@link FlotillaError} in containerd's words. {@link removePauseContainer} undoes what was made.
 * @source containerd v2.3.4 internal/cri/server/podsandbox/sandbox_run.go `Start`
 */
export async function recordPauseContainer(parts: PodParts, pod: Pod, signal: AbortSignal): Promise<void> {
  const { id, config, runtime } = pod;
  try {
    const image = await parts.images.ensurePause(config, pod.runtimeHandler, signal);
    const labels = podLabels(parts, pod);
    const spec = sandboxSpec({
      pod,
      labels,
      image: image.config,
      imageName: image.name,
      settings: parts.settings,
      machine: parts.machine,
      seccomp: await parts.seccompOf(config),
    });
    const container = {
      id,
      labels: recordLabels(config.labels, image.config.labels, "sandbox"),
      image: image.name,
      runtime: {
        name: runtime?.type ?? "",
        ...(runtime?.options === undefined ? {} : { options: runtime.options }),
      },
      spec: create(AnySchema, { typeUrl: specTypeUrl, value: new Uint8Array(Buffer.from(formatExactJson(spec))) }),
      snapshotter: snapshotterOf(parts, pod),
      snapshotKey: id,
      extensions: { [podMetadataExtension]: encodePodMetadata(pod) },
    };
    await parts.peers.containers.create({ container }, criCall({ signal })).catch((error: unknown) => {
      throw wrapFailure(error, "failed to create containerd container");
    });
  } catch (error) {
    throw wrapFailure(error, `failed to start sandbox ${quote(id)}`);
  }
}

/** Labels of SELinux for a pod, which its record holds from now on, and those that its pause container runs with. */
function podLabels({ selinux }: PodParts, pod: Pod): Labels {
  const security = pod.config.linux?.securityContext;
  const { process, mount } = selinux.make(security?.selinuxOptions);
  pod.processLabel = process;
  const privileged = security?.privileged === true;
  return { process: selinux.effective(process, { privileged, runtime: pod.runtime?.type ?? "" }), mount };
}

/** Removes the pause container of a pod, whose task is gone, from the records, and its root file system. May be repeated. */
export async function removePauseContainer(parts: PodParts, pod: Pod): Promise<void> {
  const { id } = pod;
  const { containers } = parts.peers;
  const container = await unlessAbsent(containers.get({ id }, criCall()));
  const snapshotter = container?.container?.snapshotter || snapshotterOf(parts, pod);
  // Together, so that one commit has both.
  await together([unlessAbsent(containers.delete({ id }, criCall())), parts.images.removeRoot(id, snapshotter)]);
}

async function unlessAbsent<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return undefined;
    }
    throw error;
  }
}

function snapshotterOf({ images }: PodParts, { runtime }: Pod): string {
  return runtime === undefined || runtime.snapshotter === "" ? images.snapshotter : runtime.snapshotter;
}

/** Labels by which a snapshotter gives files to the users of a pod. @source containerd v2.3.4 client/snapshotter_opts_unix.go `WithRemapperLabels` */
function remapLabelsOf({ config }: Pod): Record<string, string> {
  const options = config.linux?.securityContext?.namespaceOptions;
  if (!hasOwnUsers(options)) {
    return {};
  }
  const { uids, gids } = userMappings(options?.usernsOptions);
  const text = ([mapping]: typeof uids): string => `0:${mapping?.hostID ?? 0}:${mapping?.size ?? 0}`;
  return { "containerd.io/snapshot/uidmapping": text(uids), "containerd.io/snapshot/gidmapping": text(gids) };
}
