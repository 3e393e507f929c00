import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { type ImageConfig, parseImageConfig } from "#containerd/image-manifest.ts";
import { isConfigType, isLayerType } from "#containerd/media-types.ts";
import { normalizePlatform } from "#containerd/platform.ts";
import { LayerState, type Layers, type UnpackRequestSchema } from "#gen/flotilla/layers/v1/layers_pb.ts";
import { MessageQueue } from "#wire/message-queue.ts";
import type { ProgressTracker } from "../progress/progress-tracker.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { Caller } from "../store/caller.ts";
import type { TransferContent } from "../store/content.ts";
import { remoteSnapshotLabels } from "./remote-snapshot-labels.ts";
import type { UnpackTarget } from "./unpack-targets.ts";

/** What an unpacker works with, for one transfer. */
export interface UnpackerParts {
  readonly layers: Client<typeof Layers>;
  readonly caller: Caller;
  readonly content: Pick<TransferContent, "readDocument" | "setLabels">;
  /** The first that fits an image counts. */
  readonly targets: readonly UnpackTarget[];
  /** Name of the image, for snapshotters that fetch by themselves. */
  readonly imageName: string;
  /** How many layers of an image may be applied at a time; 0 for what suits the machine. */
  readonly sideBySideMax: number;
  /** Whether file systems are written out before a layer is committed. */
  readonly syncsFileSystem: boolean;
  /** Whether encrypted layers are decrypted with keys of this machine. */
  readonly usesNodeKeys: boolean;
  readonly tracker: ProgressTracker | undefined;
  readonly signal: AbortSignal;
}

/** An image to unpack, whose configuration is in the content store. */
export interface UnpackedImage {
  readonly manifest: Descriptor;
  readonly config: Descriptor;
  /** The lowest first. */
  readonly layers: readonly Descriptor[];
  /** Brings the bytes of a layer into the content store; absent when all are there. */
  readonly bring?: (layer: Descriptor) => Promise<void>;
}

/**
 * Unpacks images into snapshots, each layer as soon as its bytes are there.
 *
 * A layer whose snapshot is there already is not brought. When it is done, the configuration holds the snapshots by a label, and each
 * layer that was applied has the digest of its uncompressed bytes as a label.
 *
 * @source containerd v2.3.4 core/unpack/unpacker.go
 */
export class ImageUnpacker {
  readonly #parts: UnpackerParts;

  constructor(parts: UnpackerParts) {
    this.#parts = parts;
  }

  /** Whether a child of a manifest is a layer for any target. */
  isLayer(mediaType: string): boolean {
    return isLayerType(mediaType) || this.#parts.targets.some(({ layerTypes }) => layerTypes.includes(mediaType));
  }

  /** Whether a child of a manifest is a configuration for any target. */
  isConfig(mediaType: string): boolean {
    return isConfigType(mediaType) || this.#parts.targets.some(({ configType }) => configType === mediaType);
  }

  /**
   * Unpacks an image into the first snapshotter that fits it; where none does, its layers are brought all the same.
   *
   * @throws {@link FlotillaError} of any layer, with the class that it has where it comes from.
   */
  async unpack(image: UnpackedImage): Promise<void> {
    const { content, targets, signal } = this.#parts;
    const config = parseImageConfig(await content.readDocument(image.config, signal), image.config.digest);
    if (config.diffIds.length !== image.layers.length) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `number of layers and diffIDs don't match: ${image.layers.length} != ${config.diffIds.length}`,
      );
    }
    const target = targets.find((candidate) => fits(candidate, image.config, config));
    if (target === undefined) {
      const { bring } = image;
      await (bring === undefined ? undefined : Promise.all(image.layers.map(bring)));
      return;
    }
    const chainId = await this.#unpackInto(target, image, config.diffIds);
    await content.setLabels(
      image.config.digest,
      { [`containerd.io/gc.ref.snapshot.${target.snapshotter}`]: chainId },
      signal,
    );
  }

  async #unpackInto(target: UnpackTarget, image: UnpackedImage, diffIds: readonly string[]): Promise<string> {
    const { layers, signal } = this.#parts;
    const requests = new MessageQueue<MessageInitShape<typeof UnpackRequestSchema>>();
    requests.push({ message: { case: "start", value: this.#start(target, image, diffIds) } });
    const broken = new AbortController();
    const bringing: Promise<void>[] = [];
    const bring = async (index: number, layer: Descriptor): Promise<void> => {
      try {
        await image.bring?.(layer);
        requests.push({ message: { case: "complete", value: { index } } });
      } catch (error) {
        broken.abort(error);
      }
    };
    try {
      const answers = layers.unpack(requests, { signal: AbortSignal.any([signal, broken.signal]) });
      for await (const { message } of answers) {
        if (message.case === "result") {
          return message.value.chainId;
        }
        const layer = message.case === "layer" ? image.layers[message.value.index] : undefined;
        if (message.case !== "layer" || layer === undefined) {
          continue;
        }
        const { index, state, usedBytes } = message.value;
        if (state === LayerState.NEEDED) {
          bringing.push(bring(index, layer));
        } else if (state === LayerState.APPLYING) {
          this.#parts.tracker?.extract(layer, Number(usedBytes));
        } else if (state === LayerState.COMMITTED) {
          this.#parts.tracker?.extracted(layer);
        }
      }
      throw failure(ErrorKind.Unavailable, `unpacking of ${image.config.digest} ended early`);
    } catch (error) {
      // What could not be brought is what went wrong, and not the call that was broken off for it.
      throw broken.signal.aborted ? broken.signal.reason : error;
    } finally {
      requests.end();
      await Promise.all(bringing);
    }
  }

  #start(target: UnpackTarget, { manifest, layers, bring }: UnpackedImage, diffIds: readonly string[]) {
    const { caller, imageName, sideBySideMax, syncsFileSystem, usesNodeKeys } = this.#parts;
    return {
      ...caller,
      snapshotter: target.snapshotter,
      differ: target.differ,
      sideBySideMax,
      syncFileSystem: syncsFileSystem,
      usesNodeKeys,
      layers: layers.map((layer, index) => ({
        descriptor: {
          mediaType: layer.mediaType,
          digest: layer.digest,
          size: BigInt(layer.size),
          annotations: {
            ...layer.annotations,
            ...(target.wantsRemoteLabels ? remoteSnapshotLabels(imageName, manifest, layers, index) : {}),
          },
        },
        diffId: diffIds[index] ?? "",
        complete: bring === undefined,
      })),
    };
  }
}

function fits(target: UnpackTarget, { mediaType }: Descriptor, { platform, rootfsType }: ImageConfig): boolean {
  const isOrdinary = target.configType === "" || isConfigType(target.configType);
  return (
    (target.configType === "" || target.configType === mediaType) &&
    (!isOrdinary || rootfsType === "" || rootfsType === "layers") &&
    target.matcher.matches(normalizePlatform(platform))
  );
}
