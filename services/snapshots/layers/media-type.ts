import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { StreamProcessorConfig } from "#config/config.ts";

/** An uncompressed layer; what every chain of processors ends in. @source OCI image-spec v1.1 layer.md */
export const layerMediaType = "application/vnd.oci.image.layer.v1.tar";
/** A layer compressed with gzip. */
export const gzipLayerMediaType = `${layerMediaType}+gzip`;
/** A layer compressed with zstd. */
export const zstdLayerMediaType = `${layerMediaType}+zstd`;
const nonDistributableMediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/** How a layer of a media type has to be treated. `detect`: by its first bytes, since the type does not say or is not to be trusted. */
type LayerFormat = "plain" | "detect";

/** Docker's types say their compression only sometimes. @source containerd v2.3.4 core/images/mediatypes.go `DiffCompression` */
const dockerMediaTypes = new Set([
  "application/vnd.docker.image.rootfs.diff.tar",
  "application/vnd.docker.image.rootfs.foreign.diff.tar",
  "application/vnd.docker.image.rootfs.diff.tar.gzip",
  "application/vnd.docker.image.rootfs.diff.tar.zstd",
  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
]);

/** @returns Undefined for what is no layer. */
function findLayerFormat(mediaType: string): LayerFormat | undefined {
  const [base = "", ...suffixes] = mediaType.split("+");
  if (dockerMediaTypes.has(base)) {
    return suffixes.length > 0 ? "plain" : "detect";
  }
  if (base === layerMediaType || base === nonDistributableMediaType) {
    const last = suffixes.sort().at(-1);
    return last === "gzip" || last === "zstd" ? "detect" : "plain";
  }
  return undefined;
}

/** Tells whether a media type is that of a layer as an archive, compressed or not. @source containerd v2.3.4 core/images/mediatypes.go `DiffCompression` */
export function isLayerMediaType(mediaType: string): boolean {
  return findLayerFormat(mediaType) !== undefined;
}

/** A step on the way from a blob to an uncompressed layer. */
export type ProcessorStep =
  | { readonly kind: "decompress" }
  | {
      readonly kind: "program";
      /** Name in the configuration, by which a client addresses a payload to it. */
      readonly id: string;
      readonly config: StreamProcessorConfig;
      /** Media type of what the program gets. */
      readonly input: string;
    };

/** Programs in a row after which a configuration counts as going in circles. */
const stepsMax = 16;

/**
 * Plans how a blob becomes an uncompressed layer. Configured programs come before what is built in, later ones before earlier.
 *
 * @throws {@link FlotillaError} `unknown` when nothing takes a media type on the way.
 * @source containerd v2.3.4 core/diff/stream.go `GetProcessor`, `compressedHandler`; core/diff/apply/apply.go `Apply`
 */
export function planProcessors(
  mediaType: string,
  programs: ReadonlyMap<string, StreamProcessorConfig>,
): readonly ProcessorStep[] {
  const candidates = [...programs].toReversed();
  const steps: ProcessorStep[] = [];
  let current = mediaType;
  while (steps.length < stepsMax) {
    const program = candidates.find(([, config]) => config.accepts.includes(current));
    if (program === undefined) {
      const format = findLayerFormat(current);
      if (format === undefined) {
        break;
      }
      return format === "detect" ? [...steps, { kind: "decompress" }] : steps;
    }
    const [id, config] = program;
    steps.push({ kind: "program", id, config, input: current });
    current = config.returns;
    if (current === layerMediaType) {
      return steps;
    }
  }
  const reason = steps.length < stepsMax ? "no processor for media-type" : "too many processors";
  throw new FlotillaError(ErrorKind.Unknown, `failed to get stream processor for ${mediaType}: ${reason}`);
}
