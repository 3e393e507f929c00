import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { digestOf, parseDigest } from "#containerd/digest.ts";
import {
  childrenOf,
  type Descriptor,
  hasChildren,
  type Manifest,
  manifestBytesMax,
  parseImageConfig,
  parseManifest,
  platformOf,
} from "#containerd/image-manifest.ts";
import { isIndexType } from "#containerd/media-types.ts";
import { onlyPlatform, type PlatformMatcher, platformFrom } from "#containerd/platform.ts";
import type { Descriptor as TargetDescriptor } from "#gen/containerd/types/descriptor_pb.ts";
import type { ImageConfig } from "../containers/spec/container-spec.ts";
import { type CriPeers, criCall } from "../peers.ts";

/** An image for one platform, as its blobs say. */
export interface ReadImage {
  readonly manifest: Descriptor;
  readonly configuration: Descriptor;
  /** The lowest first. */
  readonly layers: readonly Descriptor[];
  readonly diffIds: readonly string[];
  readonly chainId: string;
  readonly sizeBytes: bigint;
  readonly config: ImageConfig;
  /** The configuration as it was written. */
  readonly document: Readonly<Record<string, unknown>>;
}

/** How deep indexes may lie in each other. */
const depthMax = 8;

/** Reads what images are from their blobs. */
export class ImageReader {
  readonly #content: CriPeers["content"];
  readonly #platform: PlatformMatcher;

  constructor({ content }: Pick<CriPeers, "content">) {
    this.#content = content;
    this.#platform = onlyPlatform(platformFrom(hostPlatform()));
  }

  /**
   * Reads an image for the platform of this machine.
   *
   * @throws {@link FlotillaError} `not_found` when a blob is missing or there is nothing for this platform.
   */
  async read(target: TargetDescriptor, signal?: AbortSignal): Promise<ReadImage> {
    const top: Descriptor = {
      mediaType: target.mediaType,
      digest: parseDigest(target.digest),
      size: Number(target.size),
    };
    const { descriptor, manifest, above } = await this.#findManifest(top, 0, signal);
    const configuration = manifest.config;
    if (configuration === undefined) {
      throw failure(ErrorKind.NotFound, `manifest ${descriptor.digest} has no configuration`);
    }
    const bytes = await this.#readBlob(configuration, signal);
    const { diffIds, platform } = parseImageConfig(bytes, configuration.digest);
    if (!isIndexType(top.mediaType) && platform.os !== "" && !this.#platform.matches(platform)) {
      throw failure(ErrorKind.NotFound, `${top.digest} has nothing for this platform`);
    }
    const document = JSON.parse(Buffer.from(bytes).toString("utf8")) as Readonly<Record<string, unknown>>;
    const parts = [...above, descriptor, ...childrenOf(manifest)];
    return {
      manifest: descriptor,
      configuration,
      layers: manifest.layers,
      diffIds,
      chainId: chainIdOf(diffIds),
      sizeBytes: BigInt(parts.reduce((sum, { size }) => sum + size, 0)),
      config: readConfig(document),
      document,
    };
  }

  async #findManifest(
    descriptor: Descriptor,
    depth: number,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly descriptor: Descriptor; readonly manifest: Manifest; readonly above: readonly Descriptor[] }> {
    if (depth > depthMax || !hasChildren(descriptor)) {
      throw failure(ErrorKind.NotFound, `${descriptor.digest} is no manifest`);
    }
    const manifest = parseManifest(await this.#readBlob(descriptor, signal), descriptor);
    if (!isIndexType(descriptor.mediaType)) {
      return { descriptor, manifest, above: [] };
    }
    let lost: unknown;
    for (const child of this.#inOrder(manifest.manifests)) {
      try {
        const found = await this.#findManifest(child, depth + 1, signal);
        return { ...found, above: [descriptor, ...found.above] };
      } catch (error) {
        lost = error;
      }
    }
    throw lost ?? failure(ErrorKind.NotFound, `${descriptor.digest} has nothing for this platform`);
  }

  /** What is for this platform, the best first. */
  #inOrder(manifests: readonly Descriptor[]): Descriptor[] {
    const fitting = manifests.flatMap((child) => {
      const platform = platformOf(child);
      return platform === undefined || this.#platform.matches(platform) ? [{ child, platform }] : [];
    });
    return fitting
      .toSorted((one, other) => {
        if (one.platform === undefined || other.platform === undefined) {
          return Number(one.platform === undefined) - Number(other.platform === undefined);
        }
        return this.#platform.isLess(one.platform, other.platform)
          ? -1
          : this.#platform.isLess(other.platform, one.platform)
            ? 1
            : 0;
      })
      .map(({ child }) => child);
  }

  async #readBlob({ digest, size }: Descriptor, signal: AbortSignal | undefined): Promise<Uint8Array> {
    if (size > manifestBytesMax) {
      throw failure(ErrorKind.ResourceExhausted, `${digest} is larger than ${manifestBytesMax} bytes`);
    }
    const pieces: Uint8Array[] = [];
    try {
      for await (const { data } of this.#content.read({ digest }, criCall(signal === undefined ? {} : { signal }))) {
        pieces.push(data);
      }
    } catch (error) {
      throw wrapFailure(error, `failed to read ${digest}`);
    }
    return Buffer.concat(pieces);
  }
}

/**
 * The name of the snapshot that layers make, one on the other.
 *
 * @returns "" for no layers.
 * @source opencontainers/image-spec v1.1 config.md "Layer ChainID"
 */
export function chainIdOf(diffIds: readonly string[]): string {
  return diffIds.reduce((chain, diffId) => (chain === "" ? diffId : digestOf(`${chain} ${diffId}`)), "");
}

/** @source opencontainers/image-spec v1.1 config.md "Properties" */
function readConfig(document: Readonly<Record<string, unknown>>): ImageConfig {
  const config = (typeof document["config"] === "object" ? document["config"] : null) ?? {};
  const value = (key: string): unknown => (config as Readonly<Record<string, unknown>>)[key];
  const text = (key: string): string => (typeof value(key) === "string" ? String(value(key)) : "");
  const texts = (key: string): string[] => {
    const list = value(key);
    return Array.isArray(list) ? list.map(String) : [];
  };
  const record = (key: string): Readonly<Record<string, unknown>> => {
    const table = value(key);
    return typeof table === "object" && table !== null ? (table as Readonly<Record<string, unknown>>) : {};
  };
  return {
    user: text("User"),
    env: texts("Env"),
    entrypoint: texts("Entrypoint"),
    cmd: texts("Cmd"),
    workingDirectory: text("WorkingDir"),
    volumes: Object.keys(record("Volumes")),
    labels: Object.fromEntries(Object.entries(record("Labels")).map(([key, label]) => [key, String(label)])),
    stopSignal: text("StopSignal"),
  };
}
