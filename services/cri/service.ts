import { pluginUri } from "#config/manifest.ts";
import { changesOf } from "#fleet/calls/open-changes.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { bindService } from "#wire/handler.ts";
import { type CriSettings, ineffectiveSettings, readCriSettings } from "./config.ts";
import { type Images, openImages } from "./images/images.ts";
import { imagesPlugin } from "./images-plugin.ts";
import { type Kubelet, openKubelet } from "./kubelet.ts";
import { CriMetrics } from "./metrics/cri-metrics.ts";
import { nriPlugin } from "./nri-plugin.ts";
import { connectPeers } from "./peers.ts";
import { Gate } from "./rpc/gate.ts";
import { imageService } from "./rpc/image-service.ts";
import { runtimePlugin } from "./runtime-plugin.ts";
import { serverPlugin } from "./server-plugin.ts";

/** Puts the process of the kubelet's API together. */
export function composeCri(context: ProcessContext): ProcessParts {
  const gate = new Gate();
  const peers = connectPeers(context);
  const metrics = new CriMetrics();
  const openChanges = changesOf(context, "cri");
  let images: Images | undefined;
  let settings: CriSettings | undefined;
  let kubelet: Kubelet | undefined;
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
          return {
            services: [imageService({ ...images, snapshotter: images.settings.snapshotter }, gate, openChanges())],
          };
        },
      },
      {
        manifest: runtimePlugin,
        init: () => {
          settings = readCriSettings(context.config);
          for (const reason of ineffectiveSettings(settings)) {
            context.log.warn({ reason }, "this setting has no effect");
          }
          return undefined;
        },
      },
      { manifest: nriPlugin, init: () => undefined },
      {
        manifest: serverPlugin,
        init: async () => {
          if (settings === undefined || images === undefined) {
            const missing = settings === undefined ? runtimePlugin : imagesPlugin;
            throw new Error(`plugin ${pluginUri(missing)} is not loaded`);
          }
          kubelet = await openKubelet(context, { settings, images, peers, metrics, changes: openChanges() });
          return { services: [bindService(RuntimeService, gate.guard(RuntimeService, kubelet.handlers))] };
        },
      },
    ],
    measure: () => [...metrics.families(), ...(images?.metrics.families() ?? [])],
    onReady: async () => {
      await images?.start();
      await kubelet?.recover();
      gate.open();
    },
  };
}
