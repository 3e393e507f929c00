import { ErrorKind, failure, isFailure, wrapFailure } from "#base/errors.ts";
import { isDigest } from "#containerd/digest.ts";
import { normalizeImageName } from "#containerd/image-reference.ts";
import type { Logger } from "#fleet/log.ts";
import type { Image } from "#gen/containerd/services/images/v1/images_pb.ts";
import type { Descriptor } from "#gen/containerd/types/descriptor_pb.ts";
import { type CriPeers, criCall } from "../peers.ts";
import { criImageLabels, isPinned } from "./image-labels.ts";
import { ImageReader, type ReadImage } from "./image-reader.ts";
import { ImageTable } from "./image-table.ts";
import type { LocalImage } from "./local-image.ts";

/** How many images are read at a time at the start. */
const parallelMax = 8;

export interface ImageStoreParts {
  readonly peers: CriPeers;
  readonly pinned: Readonly<Record<string, string>>;
  readonly log: Logger;
}

/**
 * The images of the kubelet's namespace: the records of metadata, and what they mean in memory. An image is known by each of its names and by its id, which is a name as well, so that
 * it stays while it is known by its id alone.
 *
 * @source containerd v2.3.4 internal/cri/server/images/image_pull.go `UpdateImage`, `createOrUpdateImageReference`
 */
export class ImageStore {
  readonly #parts: ImageStoreParts;
  readonly #reader: ImageReader;
  readonly #table = new ImageTable();
  /** The record that each name was read from. */
  readonly #seen = new Map<string, string>();

  constructor(parts: ImageStoreParts) {
    this.#parts = parts;
    this.#reader = new ImageReader(parts.peers);
  }

  /** All images, in no order. */
  all(): LocalImage[] {
    return this.#table.all();
  }

  /** An image by its id, which may be cut short. @throws {@link FlotillaError} `not_found`. */
  get(id: string): LocalImage {
    return this.#table.get(id);
  }

  /**
   * An image by any of its names, shortened or not, or by its id.
   *
   * @throws {@link FlotillaError} `not_found`.
   * @source containerd v2.3.4 internal/cri/server/images/service.go `LocalResolve`
   */
  resolve(reference: string): LocalImage {
    return this.#table.get(isDigest(reference) ? reference : (this.#table.idOf(normalized(reference)) ?? reference));
  }

  /** Takes in every image that is there and is not known as it is. What can't be read is told of in the log and left out. */
  async load(signal: AbortSignal): Promise<void> {
    const { images } = await this.#parts.peers.images.list({}, criCall({ signal }));
    const present = new Set(images.map(({ name }) => name));
    for (const known of this.#table.references()) {
      if (!present.has(known)) {
        this.#forget(known);
      }
    }
    const work = images.filter((image) => this.#seen.get(image.name) !== stateOf(image)).values();
    const takeIn = async (): Promise<void> => {
      for (const { name } of work) {
        try {
          await this.refresh(name, signal);
        } catch (error) {
          signal.throwIfAborted();
          this.#parts.log.warn({ ref: name, err: error }, "an image is left out");
        }
      }
    };
    await Promise.all(Array.from({ length: parallelMax }, takeIn));
  }

  /**
   * Takes in what a name means now. An image that somebody else brought is made one of the kubelet's by its labels and by a name that is its id.
   *
   * @throws {@link FlotillaError} when its blobs can't be read.
   */
  async refresh(reference: string, signal?: AbortSignal): Promise<void> {
    const record = await this.#find(reference, signal);
    if (record?.target === undefined) {
      this.#forget(reference);
      return;
    }
    const image = await this.#reader.read(record.target, signal);
    const id = image.configuration.digest;
    const labels = criImageLabels(reference, this.#parts.pinned);
    if (Object.entries(labels).some(([key, value]) => record.labels[key] !== value)) {
      await this.#record(id, record.target, labels, signal);
      this.#put(id, image, labels);
      await this.#record(reference, record.target, labels, signal);
    }
    this.#put(reference, image, { ...record.labels, ...labels });
    this.#seen.set(reference, stateOf(record));
  }

  /**
   * Records names of an image, all for the same target, and takes them in.
   *
   * @returns The image.
   */
  async name(
    references: (image: ReadImage) => readonly string[],
    target: Descriptor,
    labels: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<LocalImage> {
    const image = await this.#reader.read(target, signal);
    for (const reference of new Set(references(image))) {
      await this.#record(reference, target, labels, signal);
      this.#put(reference, image, labels);
    }
    return this.get(image.configuration.digest);
  }

  /** What an image is made of. @throws {@link FlotillaError} `not_found`. */
  async read(image: LocalImage, signal?: AbortSignal): Promise<ReadImage> {
    const [reference = ""] = image.references;
    const record = await this.#find(reference, signal);
    if (record?.target === undefined) {
      throw failure(ErrorKind.NotFound, `image ${JSON.stringify(reference)}`);
    }
    return await this.#reader.read(record.target, signal);
  }

  /** What a name is recorded for. @throws {@link FlotillaError} `not_found`. */
  async targetOf(reference: string, signal: AbortSignal): Promise<Descriptor> {
    const target = (await this.#find(reference, signal))?.target;
    if (target === undefined) {
      throw failure(ErrorKind.NotFound, `image ${JSON.stringify(reference)}`);
    }
    return target;
  }

  /**
   * Removes an image with all its names, and waits for the collector behind the last one. One that is not there is no error.
   *
   * @source containerd v2.3.4 internal/cri/server/images/image_remove.go `RemoveImage`
   */
  async remove(reference: string, signal: AbortSignal): Promise<void> {
    let image: LocalImage;
    try {
      image = this.resolve(reference);
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        return;
      }
      throw wrapFailure(error, `can not resolve ${JSON.stringify(reference)} locally`);
    }
    for (const [index, name] of image.references.entries()) {
      try {
        await this.#parts.peers.images.delete(
          { name, sync: index === image.references.length - 1 },
          criCall({ signal }),
        );
      } catch (error) {
        if (!isFailure(error, ErrorKind.NotFound)) {
          throw wrapFailure(
            error,
            `failed to delete image reference ${JSON.stringify(name)} for ${JSON.stringify(image.id)}`,
          );
        }
      }
      await this.refresh(name, signal);
    }
  }

  #forget(reference: string): void {
    this.#table.delete(reference);
    this.#seen.delete(reference);
  }

  #put(reference: string, image: ReadImage, labels: Readonly<Record<string, string>>): void {
    const { chainId, sizeBytes, config, document, configuration } = image;
    this.#table.put({
      id: configuration.digest,
      reference,
      chainId,
      sizeBytes,
      config,
      document,
      isPinned: isPinned(labels),
    });
  }

  async #find(name: string, signal?: AbortSignal): Promise<Image | undefined> {
    try {
      return (await this.#parts.peers.images.get({ name }, criCall(signal === undefined ? {} : { signal }))).image;
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        return undefined;
      }
      throw error;
    }
  }

  /** Makes a record say what it must: its target and the kubelet's labels; other labels stay. */
  async #record(
    name: string,
    target: Descriptor,
    labels: Readonly<Record<string, string>>,
    signal?: AbortSignal,
  ): Promise<void> {
    const { images } = this.#parts.peers;
    const call = criCall(signal === undefined ? {} : { signal });
    const image = { name, target, labels: { ...labels } };
    try {
      await images.create({ image }, call);
    } catch (error) {
      if (!isFailure(error, ErrorKind.AlreadyExists)) {
        throw error;
      }
      const old = await this.#find(name, signal);
      const changed = Object.keys(labels).filter((key) => old?.labels[key] !== labels[key]);
      if (old?.target?.digest !== target.digest || changed.length > 0) {
        const paths = ["target", ...changed.map((key) => `labels.${key}`)];
        await images.update({ image, updateMask: { paths } }, call);
      }
    }
  }
}

/** What tells one state of a record from another. */
function stateOf({ target, updatedAt }: Image): string {
  return `${target?.digest} ${updatedAt?.seconds}.${updatedAt?.nanos}`;
}

function normalized(reference: string): string {
  try {
    return normalizeImageName(reference);
  } catch {
    // What is no name may still be the beginning of an id.
    return "";
  }
}
