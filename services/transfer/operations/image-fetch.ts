import { labelBytesMax } from "#base/limits.ts";
import { childrenOf, hasChildren, parseManifest } from "#containerd/image-manifest.ts";
import type { Labels } from "#containerd/labels.ts";
import { isManifestType, MediaType } from "#containerd/media-types.ts";
import type { ChildFilter } from "../domain/child-filter.ts";
import { childLabels } from "../domain/child-labels.ts";
import { Visits } from "../domain/visits.ts";
import type { ProgressTracker } from "../progress/progress-tracker.ts";
import { addDistributionSource, distributionSourceLabel } from "../registry/distribution-source.ts";
import type { Descriptor, Registry, TransferProgress } from "../registry/ports.ts";
import { parseReference, type Reference } from "../registry/reference.ts";
import type { TransferContent } from "../store/content.ts";
import type { ImageUnpacker } from "../unpack/unpacker.ts";
import { TaskGroup } from "./task-group.ts";

/** What a fetch works with. */
export interface ImageFetchParts {
  readonly content: TransferContent;
  readonly registry: Registry;
  readonly filter: ChildFilter;
  readonly tracker: ProgressTracker;
  /** Absent when nothing is unpacked. The signal ends with the fetch. */
  readonly openUnpacker: ((signal: AbortSignal) => ImageUnpacker) | undefined;
  readonly signal: AbortSignal;
}

/**
 * Brings an image into the content store, side by side as far as the registry lets it, and unpacks it on the way.
 *
 * Every manifest and index refers to its children by labels before these are brought, and every blob says where it comes from.
 */
export class ImageFetch {
  readonly #parts: ImageFetchParts;
  readonly #source: Reference;
  readonly #tasks: TaskGroup;
  readonly #visits: Visits;
  readonly #unpacker: ImageUnpacker | undefined;
  #hasLegacyConfig = false;

  constructor(parts: ImageFetchParts) {
    this.#parts = parts;
    this.#source = parseReference(parts.registry.reference);
    this.#tasks = new TaskGroup(parts.signal);
    this.#visits = new Visits((descriptor) => this.#fetch(descriptor));
    this.#unpacker = parts.openUnpacker?.(this.#tasks.signal);
  }

  /** Whether a configuration had the media type that some registries give it by mistake. */
  get hasLegacyConfig(): boolean {
    return this.#hasLegacyConfig;
  }

  /** Resolves when all is there and unpacked, rejects when all has ended. */
  async run(root: Descriptor): Promise<void> {
    await this.#tasks.all([this.#visits.visit(root)]);
  }

  async #fetch(descriptor: Descriptor): Promise<void> {
    this.#hasLegacyConfig ||= descriptor.mediaType === MediaType.legacyConfig;
    await this.#bring(descriptor);
    if (!hasChildren(descriptor)) {
      return;
    }
    const { content, filter, tracker } = this.#parts;
    const { signal } = this.#tasks;
    const children = childrenOf(parseManifest(await content.readDocument(descriptor, signal), descriptor));
    await content.setLabels(descriptor.digest, childLabels(children), signal);
    const wanted = filter(descriptor, children);
    tracker.addChildren(descriptor, wanted);
    await this.#tasks.all(
      this.#unpacker !== undefined && isManifestType(descriptor.mediaType)
        ? this.#fetchImage(this.#unpacker, descriptor, wanted)
        : wanted.map((child) => this.#visits.visit(child)),
    );
  }

  /** The layers wait for the configuration, which says what they unpack to. */
  #fetchImage(unpacker: ImageUnpacker, manifest: Descriptor, children: readonly Descriptor[]): Promise<void>[] {
    const bring = (child: Descriptor): Promise<void> => this.#visits.visit(child);
    const layers = children.filter(({ mediaType }) => unpacker.isLayer(mediaType));
    const others = children.filter(({ mediaType }) => !unpacker.isLayer(mediaType));
    const config = others.find(({ mediaType }) => unpacker.isConfig(mediaType));
    if (config === undefined || layers.length === 0) {
      return children.map(bring);
    }
    const unpacked = bring(config).then(() => unpacker.unpack({ manifest, config, layers, bring }));
    return [...others.filter((other) => other !== config).map(bring), unpacked];
  }

  async #bring(descriptor: Descriptor): Promise<void> {
    const { content, registry, tracker } = this.#parts;
    const { signal } = this.#tasks;
    tracker.add(descriptor);
    const outcome = await registry.download(descriptor, {
      content,
      labels: this.#sourceLabels({}),
      onProgress: (progress) => this.#tell(progress),
      signal,
    });
    if (outcome === "existed") {
      const labels = (await content.findLabels(descriptor.digest, signal)) ?? {};
      await content.setLabels(descriptor.digest, this.#sourceLabels(labels), signal);
    }
  }

  /** What a blob with the given labels gets, so that a push knows where to mount it from; nothing where it would be too long. */
  #sourceLabels(labels: Labels): Labels {
    const key = distributionSourceLabel(this.#source);
    const value = addDistributionSource(labels[key], this.#source);
    return value !== labels[key] && key.length + value.length <= labelBytesMax ? { [key]: value } : {};
  }

  #tell({ descriptor, state, offset }: TransferProgress): void {
    const { tracker } = this.#parts;
    if (state === "active") {
      tracker.move(descriptor, offset);
    } else if (state === "complete") {
      tracker.complete(descriptor);
    } else if (state === "existed") {
      tracker.exists(descriptor);
    }
  }
}
