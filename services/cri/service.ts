import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { bindService } from "#wire/handler.ts";
import { type CriSettings, readCriSettings } from "./config.ts";
import { type Containers, openContainers } from "./containers/containers.ts";
import { exploreMachine, type Machine } from "./containers/machine.ts";
import { ContainerEvents } from "./events/container-events.ts";
import { type Images, openImages } from "./images/images.ts";
import { imagesPlugin } from "./images-plugin.ts";
import { PodNetworks } from "./network/pod-networks.ts";
import { cniCacheDirectory } from "./network/result-cache.ts";
import { updateRuntimeConfigCall } from "./network/update-runtime-config-call.ts";
import { nriPlugin } from "./nri-plugin.ts";
import { type CriPeers, connectPeers } from "./peers.ts";
import { pauseSeccomp } from "./pods/pause-seccomp.ts";
import { podCalls } from "./pods/pod-calls.ts";
import { podImages } from "./pods/pod-images.ts";
import type { PodParts } from "./pods/pod-parts.ts";
import { podStatus } from "./pods/pod-status.ts";
import { recoverPods } from "./pods/recover-pods.ts";
import { Gate } from "./rpc/gate.ts";
import { imageService } from "./rpc/image-service.ts";
import { runtimePlugin } from "./runtime-plugin.ts";
import { serverPlugin } from "./server-plugin.ts";
import { findDeprecations } from "./status/deprecations.ts";
import { runtimeConfigCall } from "./status/runtime-config-call.ts";
import { runtimeHandlers } from "./status/runtime-handlers.ts";
import { statusCall } from "./status/status-call.ts";
import { versionCall } from "./status/version-call.ts";
import { IdTable } from "./store/id-table.ts";
import { NameTable } from "./store/name-table.ts";
import type { Pod } from "./store/pod.ts";

/** Puts the process of the kubelet's API together. */
export function composeCri(context: ProcessContext): ProcessParts {
  const { config, log } = context;
  const gate = new Gate();
  const peers = connectPeers(context);
  let images: Images | undefined;
  let settings: CriSettings | undefined;
  let pods: PodParts | undefined;
  let containers: Containers | undefined;
  return {
    plugins: [
      {
        manifest: imagesPlugin,
        init: () => {
          const ofRuntimes = (): string[] =>
            [...(settings?.runtimes.values() ?? [])]
              .map(({ snapshotter }) => snapshotter)
              .filter((name) => name !== "");
          images = openImages(context, peers, ofRuntimes);
          return { services: [imageService({ ...images, snapshotter: images.settings.snapshotter }, gate)] };
        },
      },
      {
        manifest: runtimePlugin,
        init: () => {
          settings = readCriSettings(config);
          return undefined;
        },
      },
      { manifest: nriPlugin, init: () => undefined },
      {
        manifest: serverPlugin,
        init: () => {
          if (settings === undefined || images === undefined) {
            const missing = settings === undefined ? runtimePlugin : imagesPlugin;
            throw new Error(`plugin ${pluginUri(missing)} is not loaded`);
          }
          const { network, runtimes } = settings;
          const networks = new PodNetworks(network, runtimes.values(), cniCacheDirectory);
          const machine = onceAsked(settings);
          const opened = openPods(context, { settings, peers, images, networks, machine });
          ({ pods, containers } = opened);
          const deprecations = findDeprecations(
            pluginTable(config, pluginUri(imagesPlugin)),
            pluginTable(config, pluginUri(runtimePlugin)),
          );
          const handlers = {
            ...versionCall,
            ...runtimeConfigCall(settings),
            ...statusCall({
              settings,
              networks,
              handlers: runtimeHandlers({ settings, peers, log }, machine),
              deprecations: () => deprecations,
            }),
            ...updateRuntimeConfigCall(network, networks, log),
            ...podCalls(opened.pods),
            ...opened.containers.calls,
          };
          return { services: [bindService(RuntimeService, gate.guard(RuntimeService, handlers))] };
        },
      },
    ],
    onReady: async () => {
      await images?.start();
      if (pods !== undefined) {
        await recoverPods(pods);
      }
      await containers?.start();
      gate.open();
    },
  };
}

interface PodSources {
  readonly settings: CriSettings;
  readonly peers: CriPeers;
  readonly images: Images;
  readonly networks: PodNetworks;
  readonly machine: () => Promise<Machine>;
}

function openPods(
  { log, stopping, resources }: ProcessContext,
  { settings, peers, images, networks, machine }: PodSources,
): { readonly pods: PodParts; readonly containers: Containers } {
  const pods = new IdTable<Pod>();
  const events = new ContainerEvents({
    describe: (id) => {
      const pod = pods.find(id);
      return { pod: pod === undefined ? undefined : podStatus(pod), containers: containers.statuses(id) };
    },
  });
  const containers: Containers = openContainers(
    { settings, peers, images, pods, machine, events, log, stopping },
    resources,
  );
  const nobody = (): Promise<void> => Promise.resolve();
  const parts: PodParts = {
    settings,
    peers,
    networks,
    pods,
    names: new NameTable(),
    images: podImages(images, peers),
    containers,
    observers: { runPod: nobody, stopPod: nobody, removePod: nobody, updatePod: nobody, postUpdatePod: nobody },
    machine,
    seccompOf: async (config) => pauseSeccomp(config, settings, await machine()),
    publish: ({ id }, type) => events.publish(id, id, type),
    log,
    stopping,
  };
  return { pods: parts, containers };
}

/** What is so on this machine, found out when somebody first wants to know. */
function onceAsked(settings: CriSettings): () => Promise<Machine> {
  let machine: Promise<Machine> | undefined;
  return () => (machine ??= exploreMachine(settings));
}
