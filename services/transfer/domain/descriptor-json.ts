import type { ImagePlatform } from "#containerd/platform.ts";
import type { Descriptor } from "../registry/ports.ts";

/** A descriptor with its keys in the order in which Go writes them. @source OCI image-spec v1.1 specs-go/v1/descriptor.go */
export function descriptorJson(descriptor: Descriptor): object {
  const { mediaType, digest, size, urls, annotations, data, platform, artifactType } = descriptor;
  return {
    mediaType,
    digest,
    size,
    ...(urls === undefined || urls.length === 0 ? {} : { urls }),
    ...(annotations === undefined || Object.keys(annotations).length === 0 ? {} : { annotations: sorted(annotations) }),
    ...(data === undefined || data === "" ? {} : { data }),
    ...(platform === undefined ? {} : { platform }),
    ...(artifactType === undefined || artifactType === "" ? {} : { artifactType }),
  };
}

/** A platform with its keys in the order in which Go writes them. @source OCI image-spec v1.1 specs-go/v1/descriptor.go `Platform` */
export function platformJson(platform: ImagePlatform): Readonly<Record<string, unknown>> {
  const { architecture, os, osVersion, osFeatures, variant } = platform;
  return {
    architecture,
    os,
    ...(osVersion === "" ? {} : { "os.version": osVersion }),
    ...(osFeatures.length === 0 ? {} : { "os.features": osFeatures }),
    ...(variant === "" ? {} : { variant }),
  };
}

function sorted(texts: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(texts).sort(([left], [right]) => (left < right ? -1 : 1)));
}
