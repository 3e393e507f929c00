import { wrapFailure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import { normalizeImageName } from "#containerd/image-reference.ts";
import { isLayerType } from "#containerd/media-types.ts";
import type { AuthConfig, PodSandboxConfig } from "#gen/runtime/v1/api_pb.ts";
import type { PullMetrics } from "../metrics/pull-metrics.ts";
import { type CriPeers, criCall } from "../peers.ts";
import { credentialsFor } from "./credentials.ts";
import { criImageLabels } from "./image-labels.ts";
import type { ReadImage } from "./image-reader.ts";
import type { ImageSettings } from "./image-settings.ts";
import type { ImageStore } from "./image-store.ts";
import type { LocalImage } from "./local-image.ts";
import { namesAfterPull, transferImage } from "./pull-image.ts";

/** The kubelet's older way to name a pod's runtime. @source containerd v2.3.4 internal/cri/annotations/annotations.go `RuntimeHandler` */
const runtimeHandlerAnnotation = "io.containerd.cri.runtime-handler";

/** What an image is pulled for. */
export interface PullPurpose {
  readonly auth?: AuthConfig | undefined;
  readonly podConfig?: PodSandboxConfig | undefined;
  readonly runtimeHandler: string;
  readonly signal: AbortSignal;
}

export interface ImagePullerParts {
  readonly peers: CriPeers;
  readonly store: ImageStore;
  readonly settings: ImageSettings;
  readonly metrics: PullMetrics;
}

/** Brings images for the kubelet and for pods. */
export class ImagePuller {
  readonly #parts: ImagePullerParts;
  readonly #turns = new KeyedLock<string>();

  constructor(parts: ImagePullerParts) {
    this.#parts = parts;
  }

  /**
   * Brings an image and makes it known by its id, its tag and its digest.
   *
   * @param name - As people write it.
   * @throws {@link FlotillaError} `unknown` for what is no name; else of the transfer.
   * @source containerd v2.3.4 internal/cri/server/images/image_pull.go `PullImage`
   */
  pull(name: string, purpose: PullPurpose): Promise<LocalImage> {
    return this.#parts.metrics.during(() => this.#pull(name, purpose));
  }

  async #pull(name: string, purpose: PullPurpose): Promise<LocalImage> {
    const { peers, store, settings } = this.#parts;
    let reference: string;
    try {
      reference = normalizeImageName(name);
    } catch (error) {
      throw wrapFailure(error, `failed to parse image reference ${JSON.stringify(name)}`);
    }
    const snapshotter = this.#snapshotterFor(purpose);
    const labels = criImageLabels(reference, settings.pinned);
    const { signal, auth } = purpose;
    try {
      await transferImage(peers, {
        reference,
        snapshotter,
        labels,
        credentials: (host) => credentialsFor(auth ?? settings.credentials[host], host),
        headers: settings.headers,
        hostDirectories: settings.hostDirectories,
        progressTimeoutMs: settings.progressTimeoutMs,
        flushesUnpackedLayers: settings.flushesUnpackedLayers,
        usesNodeKeys: settings.usesNodeKeys,
        limits: settings.downloadLimits,
        signal,
      });
    } catch (error) {
      throw wrapFailure(error, `failed to pull and unpack image ${JSON.stringify(reference)}`);
    }
    const target = await store.targetOf(reference, signal);
    const names = (image: ReadImage): string[] =>
      namesAfterPull(reference, { id: image.configuration.digest, digest: target.digest });
    const image = await store.name(names, target, labels, signal);
    if (settings.discardsUnpackedLayers) {
      await this.#discardLayers(image, signal);
    }
    return image;
  }

  /**
   * An image that is here, or is brought now. Whoever wants the same at the same time waits for the one that brings it.
   *
   * @throws as {@link pull}
   * @source containerd v2.3.4 internal/cri/server/sandbox_run.go `ensurePauseImageExists`
   */
  ensure(name: string, purpose: PullPurpose): Promise<LocalImage> {
    return this.#turns.run([name], async () => this.#present(name) ?? (await this.pull(name, purpose)));
  }

  #present(name: string): LocalImage | undefined {
    try {
      return this.#parts.store.resolve(name);
    } catch {
      return undefined;
    }
  }

  /** @source containerd v2.3.4 internal/cri/server/images/image_pull.go `snapshotterFromPodSandboxConfig` */
  #snapshotterFor({ podConfig, runtimeHandler }: PullPurpose): string {
    const { snapshotter, snapshotterOfRuntime } = this.#parts.settings;
    const handler = runtimeHandler === "" ? (podConfig?.annotations[runtimeHandlerAnnotation] ?? "") : runtimeHandler;
    return (podConfig === undefined ? undefined : snapshotterOfRuntime[handler]) ?? snapshotter;
  }

  /** Lets go of the layers of a manifest: the collector takes those that nothing else refers to. @source containerd v2.3.4 core/images/handlers.go `ChildGCLabelsFilterLayers` */
  async #discardLayers(image: LocalImage, signal: AbortSignal): Promise<void> {
    const { contentRecords } = this.#parts.peers;
    const { manifest, layers } = await this.#parts.store.read(image, signal);
    const digests = new Set<string>(
      layers.filter(({ mediaType }) => isLayerType(mediaType)).map(({ digest }) => digest),
    );
    const { info } = await contentRecords.info({ digest: manifest.digest }, criCall({ signal }));
    const keys = Object.entries(info?.labels ?? {})
      .filter(([key, digest]) => key.startsWith("containerd.io/gc.ref.content.") && digests.has(digest))
      .map(([key]) => key);
    if (keys.length > 0) {
      const labels = Object.fromEntries(keys.map((key) => [key, ""]));
      const updateMask = { paths: keys.map((key) => `labels.${key}`) };
      await contentRecords.update({ info: { digest: manifest.digest, labels }, updateMask }, criCall({ signal }));
    }
  }
}
