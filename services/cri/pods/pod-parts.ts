import type { Changes } from "#fleet/calls/changes.ts";
import type { Logger } from "#fleet/log.ts";
import type { ContainerEventType, LinuxContainerResources, PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import type { CriSettings } from "../config.ts";
import type { ImageConfig, MachineFacts } from "../containers/spec/container-spec.ts";
import type { OciSeccomp } from "../containers/spec/oci-spec.ts";
import type { CriMetrics } from "../metrics/cri-metrics.ts";
import type { PodNetworks } from "../network/pod-networks.ts";
import type { CriPeers } from "../peers.ts";
import type { Selinux } from "../selinux/selinux.ts";
import type { NameTable } from "../store/name-table.ts";
import type { Pod, PodTable } from "../store/pod.ts";

/** The image of pause containers, which is here or is fetched. */
export interface PauseImage {
  /** As the configuration has it. */
  readonly name: string;
  readonly config: ImageConfig;
  /** Makes a root file system for the container of that id, held by the lease of that id until a record does. */
  makeRoot(id: string, options: RootOptions): Promise<void>;
}

export interface RootOptions {
  readonly snapshotter: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** What pods want of images. */
export interface PodImages {
  /** Finds the image of pause containers, or fetches it. */
  ensurePause(config: PodSandboxConfig, runtimeHandler: string, signal: AbortSignal): Promise<PauseImage>;
  /** Removes a root file system. One that is not there is no error. */
  removeRoot(id: string, snapshotter: string): Promise<void>;
  /** The snapshotter of a runtime that names none itself. */
  readonly snapshotter: string;
}

/** What pods want of the containers in them. */
export interface PodContainers {
  /** Kills all containers of a pod and waits for their end. */
  stopAll(podId: string): Promise<void>;
  /** Removes all containers of a pod. */
  removeAll(podId: string): Promise<void>;
}

/** Who is told of pods, and may object. @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go */
export interface PodObservers {
  /** @throws What keeps the pod from being run. */
  runPod(pod: Pod): Promise<void>;
  stopPod(pod: Pod): Promise<void>;
  removePod(pod: Pod): Promise<void>;
  /** @throws What keeps the limits from being changed. */
  updatePod(
    pod: Pod,
    change: {
      readonly overhead: LinuxContainerResources | undefined;
      readonly resources: LinuxContainerResources | undefined;
    },
  ): Promise<void>;
  postUpdatePod(pod: Pod): Promise<void>;
}

/** What everything about pods works with. */
export interface PodParts {
  readonly settings: CriSettings;
  readonly peers: CriPeers;
  readonly networks: PodNetworks;
  readonly pods: PodTable;
  readonly names: NameTable;
  readonly images: PodImages;
  readonly containers: PodContainers;
  readonly observers: PodObservers;
  readonly metrics: CriMetrics;
  readonly machine: MachineFacts;
  readonly selinux: Selinux;
  /** The filter of system calls of a pause container, if it gets one. */
  readonly seccompOf: (config: PodSandboxConfig) => Promise<OciSeccomp | undefined>;
  /** Tells of what has happened to a pod. */
  readonly publish: (pod: Pod, type: ContainerEventType) => void;
  /** Carries out each call once that changes something. */
  readonly changes: Changes;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}
