import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { gzipSync } from "node:zlib";
import { hostPlatform } from "#config/host-platform.ts";
import { packTar, type TarEntry } from "./tar.ts";

/** A blob of an image. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** What an image consists of. */
export interface ImageParts {
  /** Whole reference, such as `docker.io/library/busybox:test`. */
  readonly name: string;
  /** Layers, lowest first, each made when its turn comes: entries, or a whole archive. */
  readonly layers: readonly (() => Iterable<TarEntry> | Buffer)[];
  /** The `config` of the image's configuration. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** Written with the image, so that a test need not read it back. */
export interface LayoutFacts {
  readonly manifest: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly diffIds: readonly string[];
}

const created = "2024-01-01T00:00:00Z";
/** Fast, and about as small as images usually are. */
const gzipLevel = 4;

/** Writes an image as an OCI layout into an empty directory; the same bytes for the same parts. */
export async function writeLayout(directory: string, { name, layers, config }: ImageParts): Promise<LayoutFacts> {
  await mkdir(`${directory}/blobs/sha256`, { recursive: true });
  const putBlob = async (mediaType: string, bytes: Uint8Array): Promise<Descriptor> => {
    const hex = createHash("sha256").update(bytes).digest("hex");
    await writeFile(`${directory}/blobs/sha256/${hex}`, bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const putJson = (mediaType: string, value: unknown): Promise<Descriptor> =>
    putBlob(mediaType, Buffer.from(JSON.stringify(value)));
  const descriptors: Descriptor[] = [];
  const diffIds: string[] = [];
  for (const layer of layers) {
    const made = layer();
    const tar = Buffer.isBuffer(made) ? made : packTar(made);
    diffIds.push(`sha256:${createHash("sha256").update(tar).digest("hex")}`);
    descriptors.push(await putBlob("application/vnd.oci.image.layer.v1.tar+gzip", gzipSync(tar, { level: gzipLevel })));
  }
  const { os, architecture, variant } = hostPlatform();
  const platform = { os, architecture, ...(variant === "" ? {} : { variant }) };
  const configDescriptor = await putJson("application/vnd.oci.image.config.v1+json", {
    created,
    ...platform,
    config,
    rootfs: { type: "layers", diff_ids: diffIds },
    history: descriptors.map((_, index) => ({ created, created_by: `layer ${index + 1}` })),
  });
  const manifest = await putJson("application/vnd.oci.image.manifest.v1+json", {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: configDescriptor,
    layers: descriptors,
  });
  const tag = name.slice(name.lastIndexOf(":") + 1);
  const annotations = { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag };
  await writeFile(`${directory}/oci-layout`, JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  await writeFile(
    `${directory}/index.json`,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.index.v1+json",
      manifests: [{ ...manifest, platform, annotations }],
    }),
  );
  return { manifest, layers: descriptors, diffIds };
}

/** Packs a layout into one archive, as `ctr images import` takes it. */
export async function packLayout(directory: string, archive: string, blobs: readonly string[]): Promise<void> {
  const paths = ["oci-layout", "index.json", ...blobs.map((digest) => `blobs/${digest.replace(":", "/")}`)];
  async function* chunks(): AsyncIterable<Buffer> {
    for (const path of paths) {
      const packed = packTar([{ path, type: "file", mode: 0o644, content: await readFile(`${directory}/${path}`) }]);
      yield packed.subarray(0, packed.length - endBytes);
    }
    yield Buffer.alloc(endBytes);
  }
  await pipeline(chunks, createWriteStream(archive));
}

/** Two empty blocks end an archive. */
const endBytes = 1024;
