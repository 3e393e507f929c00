import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { type Digest, findDigestFault } from "./digest.ts";
import { isIndexType, isManifestType } from "./media-types.ts";
import { type ImagePlatform, platformFrom } from "./platform.ts";

/**
 * A piece of an image by its digest, with the names of the OCI image specification, as they stand in manifests.
 *
 * @source OCI image-spec v1.1 descriptor.md
 */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  readonly urls?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  /** The whole content in base64, where a manifest embeds it. */
  readonly data?: string;
  readonly artifactType?: string;
  readonly platform?: Readonly<Record<string, unknown>>;
}

/** Largest manifest, index or configuration that is read. The largest messages between processes are not larger. */
export const manifestBytesMax = 16 * 1024 * 1024;
/** Most descriptors in one manifest or index. */
const childrenMax = 10_000;

/** What a manifest or an index says of itself and what it refers to. */
export interface Manifest {
  readonly config?: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly manifests: readonly Descriptor[];
}

/** Whether a descriptor can have children. */
export function hasChildren({ mediaType }: Descriptor): boolean {
  return isManifestType(mediaType) || isIndexType(mediaType);
}

/**
 * Reads a manifest or an index.
 *
 * @throws {@link FlotillaError} `unknown` with containerd's words when it is no JSON or something else than its media type says;
 *   `invalid_argument` when a descriptor in it is none.
 * @source containerd v2.3.4 core/images/image.go `Children`, `validateMediaType`
 */
export function parseManifest(bytes: Uint8Array, { mediaType, digest }: Descriptor): Manifest {
  const document = parseObject(bytes, digest);
  const refuse = (reason: string): never => {
    throw new FlotillaError(ErrorKind.Unknown, `children: invalid desc ${digest}: media-type: ${reason}`);
  };
  const says = typeof document["mediaType"] === "string" ? document["mediaType"] : "";
  const has = (key: string): boolean => document[key] !== undefined;
  if (has("fsLayers")) {
    refuse("schema 1 not supported");
  }
  if (isManifestType(mediaType)) {
    if (has("manifests") || isIndexType(says)) {
      refuse(`expected manifest but found index (${mediaType})`);
    }
    return {
      config: parseDescriptor(document["config"], digest),
      layers: list(document["layers"], digest),
      manifests: [],
    };
  }
  if (has("config") || has("layers") || isManifestType(says)) {
    refuse(`expected index but found manifest (${mediaType})`);
  }
  return { layers: [], manifests: list(document["manifests"], digest) };
}

/** All that a manifest or an index refers to, in containerd's order. */
export function childrenOf({ config, layers, manifests }: Manifest): Descriptor[] {
  return [...(config === undefined ? [] : [config]), ...layers, ...manifests];
}

/** Parts of an image's configuration. */
export interface ImageConfig {
  readonly platform: ImagePlatform;
  /** `rootfs.type`, "" when absent. */
  readonly rootfsType: string;
  /** Digests of the uncompressed layers, the lowest first. */
  readonly diffIds: readonly string[];
}

/** Reads a configuration. @throws {@link FlotillaError} `unknown` when it is no JSON. */
export function parseImageConfig(bytes: Uint8Array, digest: string): ImageConfig {
  const document = parseObject(bytes, digest);
  const rootfs = isObject(document["rootfs"]) ? document["rootfs"] : {};
  const diffIds = Array.isArray(rootfs["diff_ids"]) ? rootfs["diff_ids"] : [];
  return {
    platform: platformFrom({ ...document, osVersion: document["os.version"], osFeatures: document["os.features"] }),
    rootfsType: typeof rootfs["type"] === "string" ? rootfs["type"] : "",
    diffIds: diffIds.map(String),
  };
}

/** The platform that an index says a manifest is for. */
export function platformOf({ platform }: Descriptor): ImagePlatform | undefined {
  return platform === undefined
    ? undefined
    : platformFrom({ ...platform, osVersion: platform["os.version"], osFeatures: platform["os.features"] });
}

function list(value: unknown, parent: string): Descriptor[] {
  if (value === undefined || value === null) {
    return [];
  }
  if (!Array.isArray(value) || value.length > childrenMax) {
    throw failure(ErrorKind.InvalidArgument, `${parent} has no list of at most ${childrenMax} descriptors`);
  }
  return value.map((item) => parseDescriptor(item, parent));
}

function parseDescriptor(value: unknown, parent: string): Descriptor {
  const { mediaType, digest, size, urls, annotations, data, artifactType, platform } = isObject(value) ? value : {};
  const fault = typeof digest === "string" ? findDigestFault(digest) : "it is no text";
  if (fault !== undefined) {
    throw failure(ErrorKind.InvalidArgument, `${parent} refers to something without a digest: ${fault}`);
  }
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
    throw failure(ErrorKind.InvalidArgument, `${parent} refers to ${String(digest)} without its size`);
  }
  return {
    mediaType: typeof mediaType === "string" ? mediaType : "",
    digest: digest as Descriptor["digest"],
    size,
    ...(Array.isArray(urls) ? { urls: urls.filter((url) => typeof url === "string") } : {}),
    ...(isObject(annotations) ? { annotations: textsOf(annotations) } : {}),
    ...(typeof data === "string" ? { data } : {}),
    ...(typeof artifactType === "string" ? { artifactType } : {}),
    ...(isObject(platform) ? { platform } : {}),
  };
}

function textsOf(values: Readonly<Record<string, unknown>>): Record<string, string> {
  const texts: [string, string][] = [];
  for (const [key, value] of Object.entries(values)) {
    if (typeof value === "string") {
      texts.push([key, value]);
    }
  }
  return Object.fromEntries(texts);
}

function parseObject(bytes: Uint8Array, digest: string): Readonly<Record<string, unknown>> {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8"));
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `${digest} is no JSON`, { cause: error });
  }
  if (!isObject(document)) {
    throw new FlotillaError(ErrorKind.Unknown, `${digest} is no JSON object`);
  }
  return document;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
