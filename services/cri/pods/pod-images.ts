import type { Images } from "../images/images.ts";
import { prepareRoot, removeRoot } from "../images/prepare-root.ts";
import type { CriPeers } from "../peers.ts";
import type { PodImages } from "./pod-parts.ts";

/** Under which name the configuration has the image of pause containers. @source containerd v2.3.4 internal/cri/config/config.go `PinnedImages` */
const pauseKey = "sandbox";
/** @source containerd v2.3.4 internal/cri/config/config_unix.go `DefaultSandboxImage` */
const pauseDefault = "registry.k8s.io/pause:3.10.2";

/** What pods want of images, from those of this process. */
export function podImages(images: Images, peers: CriPeers): PodImages {
  const name = images.settings.pinned[pauseKey] || pauseDefault;
  return {
    snapshotter: images.settings.snapshotter,
    async ensurePause(podConfig, runtimeHandler, signal) {
      const image = await images.puller.ensure(name, { podConfig, runtimeHandler, signal });
      return {
        name,
        config: image.config,
        async makeRoot(key, options) {
          await prepareRoot({ peers, store: images.store }, { key, image, lease: key, ...options });
        },
      };
    },
    removeRoot: (key, snapshotter) => removeRoot(peers, { key, snapshotter }),
  };
}
