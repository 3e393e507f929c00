import type { Changes } from "#fleet/calls/changes.ts";
import { findDeprecations } from "#fleet/deprecations.ts";
import type { ProcessContext } from "#fleet/run.ts";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import { openBlockIo } from "./block-io/open-block-io.ts";
import { carriedOutOnce } from "./calls/carried-out-once.ts";
import { CdiDevices } from "./cdi/cdi-devices.ts";
import { checkpointCall } from "./checkpoint/checkpoint-call.ts";
import { type CriSettings, readCriSettings } from "./config.ts";
import { type Containers, openContainers } from "./containers/containers.ts";
import { deviceAt } from "./containers/host-devices.ts";
import { exploreMachine, type Machine } from "./containers/machine.ts";
import { ContainerEvents } from "./events/container-events.ts";
import { type ContainerStreamParts, containerStreams } from "./exec/container-streams.ts";
import type { StreamedContainer } from "./exec/streamed-container.ts";
import type { Images } from "./images/images.ts";
import { imagesPlugin } from "./images-plugin.ts";
import type { CriMetrics } from "./metrics/cri-metrics.ts";
import { timedCalls } from "./metrics/timed-calls.ts";
import { PodNetworks } from "./network/pod-networks.ts";
import { cniCacheDirectory } from "./network/result-cache.ts";
import { updateRuntimeConfigCall } from "./network/update-runtime-config-call.ts";
import { containerObservers, podObservers } from "./nri/observers.ts";
import { openNri } from "./nri/open-nri.ts";
import type { CriPeers } from "./peers.ts";
import { pauseSeccomp } from "./pods/pause-seccomp.ts";
import { podCalls } from "./pods/pod-calls.ts";
import { podImages } from "./pods/pod-images.ts";
import type { PodParts } from "./pods/pod-parts.ts";
import { podStatus } from "./pods/pod-status.ts";
import { recoverPods } from "./pods/recover-pods.ts";
import { runtimePlugin } from "./runtime-plugin.ts";
import { Selinux } from "./selinux/selinux.ts";
import { findSelinux } from "./selinux/selinux-machine.ts";
import { statsCalls } from "./stats/stats-calls.ts";
import { runtimeConfigCall } from "./status/runtime-config-call.ts";
import { runtimeHandlers } from "./status/runtime-handlers.ts";
import { statusCall } from "./status/status-call.ts";
import { versionCall } from "./status/version-call.ts";
import type { Container } from "./store/container.ts";
import { IdTable } from "./store/id-table.ts";
import { NameTable } from "./store/name-table.ts";
import type { Pod, PodTable } from "./store/pod.ts";
import { streamingCalls } from "./streaming/streaming-calls.ts";
import { StreamingServer } from "./streaming/streaming-server.ts";
import { readStreamingSettings } from "./streaming/streaming-settings.ts";

/** Calls that change something and may be carried out again from the beginning; others find out how far they came. */
const repeatedCalls = [
  "stopPodSandbox",
  "removePodSandbox",
  "updatePodSandboxResources",
  "removeContainer",
  "updateContainerResources",
  "reopenContainerLog",
  "updateRuntimeConfig",
] as const;

/** What the parts are made of. */
export interface KubeletSources {
  readonly settings: CriSettings;
  readonly peers: CriPeers;
  readonly images: Images;
  readonly metrics: CriMetrics;
  readonly changes: Changes;
}

/** What answers the kubelet about pods and containers. */
export interface Kubelet {
  readonly handlers: Partial<Handlers<typeof RuntimeService>>;
  /** Finds again what was there before this process. */
  recover(): Promise<void>;
}

/** Puts pods, containers, streams and events together. */
export async function openKubelet(context: ProcessContext, sources: KubeletSources): Promise<Kubelet> {
  const { config, log, stopping, resources } = context;
  const { settings, peers, images, metrics, changes } = sources;
  const machine = await exploreMachine(settings);
  const selinux = await openSelinux(settings, log);
  const blockIoClasses = await openBlockIo(settings.blockIoConfigFile, log);
  const networks = new PodNetworks(settings.network, settings.runtimes.values(), cniCacheDirectory);
  context.onReload((next) => {
    const changed = readCriSettings(next);
    return () => {
      // All parts read it each time that they need something of it.
      Object.assign(settings, changed);
      networks.configure(settings.network, settings.runtimes.values());
    };
  });
  const pods: PodTable = new IdTable<Pod>();
  const events = new ContainerEvents({
    describe: (id) => {
      const pod = pods.find(id);
      return { pod: pod === undefined ? undefined : podStatus(pod), containers: containers.statuses(id) };
    },
  });
  metrics.watchEvents(() => events.dropped);
  const cdi = new CdiDevices(() => settings.cdiSpecDirectories, deviceAt, log);
  const nri = openNri(context, { ...sources, cdi }, () => ({ pods, containers }));
  const known = (): Promise<Machine> => Promise.resolve(machine);
  const containers = openContainers(
    {
      peers,
      settings,
      images,
      pods,
      machine: known,
      cdi,
      selinux,
      blockIoClasses,
      events,
      observers: containerObservers(nri, pods, log),
      changes,
      log,
      stopping,
    },
    resources,
  );
  const podParts = openPods(context, sources, {
    machine,
    selinux,
    networks,
    pods,
    containers,
    events,
    observers: podObservers(nri),
  });
  const streamParts: ContainerStreamParts = {
    tasks: peers.tasks,
    drainMs: settings.drainExecSyncIoMs,
    log,
    containers: { get: (id) => streamedContainer(containers.table.get(id)) },
    pods,
    records: peers.containers,
  };
  const server = resources.use(
    await StreamingServer.start(readStreamingSettings(config), containerStreams(streamParts, stopping)),
  );
  const podHandlers = podCalls(podParts);
  const timed = timedCalls(metrics, { pods, containers: containers.table }, { ...podHandlers, ...containers.calls });
  const deprecations = await findDeprecations(config, [imagesPlugin, runtimePlugin]);
  const handlers = {
    ...versionCall,
    ...runtimeConfigCall(settings),
    ...statusCall({
      settings,
      networks,
      handlers: runtimeHandlers({ settings, peers, log }, machine),
      deprecations: () => [...deprecations, ...context.deprecations.all()],
    }),
    ...updateRuntimeConfigCall(settings, { networks, metrics }, log),
    ...podHandlers,
    ...containers.calls,
    ...timed,
    ...streamingCalls({ ...streamParts, events, server, changes }),
    ...checkpointCall(containers.parts, metrics),
    ...statsCalls(containers.parts),
  } satisfies Partial<Handlers<typeof RuntimeService>>;
  return {
    handlers: carriedOutOnce(RuntimeService, handlers, repeatedCalls, changes),
    async recover() {
      await recoverPods(podParts);
      await containers.start();
      await nri?.start();
    },
  };
}

/** @source containerd v2.3.4 internal/cri/server/service_linux.go `initPlatform` */
async function openSelinux(
  { enableSelinux, selinuxCategoryRange }: CriSettings,
  log: ProcessContext["log"],
): Promise<Selinux> {
  const port = enableSelinux ? await findSelinux() : undefined;
  if (enableSelinux && port === undefined) {
    log.warn("Selinux is not supported");
  }
  return new Selinux(port, selinuxCategoryRange);
}

interface PodSurroundings {
  readonly machine: Machine;
  readonly selinux: Selinux;
  readonly networks: PodNetworks;
  readonly pods: PodTable;
  readonly containers: Containers;
  readonly events: ContainerEvents;
  readonly observers: PodParts["observers"];
}

function openPods(
  { log, stopping }: ProcessContext,
  { settings, peers, images, metrics, changes }: KubeletSources,
  { machine, selinux, networks, pods, containers, events, observers }: PodSurroundings,
): PodParts {
  return {
    settings,
    peers,
    networks,
    pods,
    names: new NameTable(),
    images: podImages(images, peers),
    containers,
    observers,
    machine,
    selinux,
    seccompOf: (podConfig) => pauseSeccomp(podConfig, settings, machine),
    metrics,
    changes,
    publish: ({ id }, type) => events.publish(id, id, type),
    log,
    stopping,
  };
}

/** A container as streams know it. */
function streamedContainer(container: Container): StreamedContainer {
  const { id, state, io, facts, metadata } = container;
  return { id, state, io, stateDirectory: facts.stateDirectory, stdinOnce: metadata.config.stdinOnce };
}
