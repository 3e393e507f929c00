import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { hostPlatform } from "#config/host-platform.ts";
import { packLayout } from "../kit/oci-layout.ts";
import { packTar, type TarEntry } from "../kit/tar.ts";

/** A layer that tries to reach what is none of its business, or is no layer at all. */
export interface HostileLayer {
  readonly name: string;
  /** The blob; its digest is right. */
  readonly blob: Buffer;
  /** Digest of the archive, as the image's configuration gives it. */
  readonly diffId: string;
  /** Whether there is one error to tell; which of several is found first depends on how far decompression is ahead. */
  readonly isErrorComparable: boolean;
}

const evil = Buffer.from("evil\n");

/** @param victim - Absolute path of a directory outside, with a file `canary` in it. */
export function hostileLayers(victim: string): HostileLayer[] {
  const climb = `${"../".repeat(24)}${victim.slice(1)}`;
  const file = (path: string): TarEntry => ({ path, type: "file", mode: 0o644, content: evil });
  const symlink = (path: string, target: string): TarEntry => ({ path, type: "symlink", mode: 0o777, target });
  const hardlink = (path: string, target: string): TarEntry => ({ path, type: "link", mode: 0o644, target });
  const directory = (path: string, mode = 0o755): TarEntry => ({ path, type: "directory", mode });
  const archives: Record<string, TarEntry[]> = {
    "parent names": [file(`${climb}/evil`), file("../evil"), file("a/../../evil")],
    "absolute names": [file(`${victim}/evil`), directory(`${victim}/evil-directory`)],
    "a name that replaces": [file(`${climb}/canary`)],
    "an absolute hard link": [hardlink("stolen", `${victim}/canary`)],
    "a hard link to a parent": [hardlink("stolen", `${climb}/canary`)],
    "a hard link through a symbolic link": [symlink("door", victim), hardlink("stolen", "door/canary")],
    "a write through a symbolic link": [symlink("door", victim), file("door/evil"), directory("door/evil-directory")],
    "a write through a relative symbolic link": [symlink("door", climb), file("door/evil")],
    "a write through two symbolic links": [symlink("one", "two"), symlink("two", victim), file("one/evil")],
    "a symbolic link in place of a written file": [symlink("canary", `${victim}/canary`), file("canary")],
    "a mode through a symbolic link": [symlink("door", victim), directory("door", 0o777)],
    "a whiteout outside": [file(`${climb}/.wh.canary`), file("../.wh.canary"), file(`${victim}/.wh.canary`)],
    "a whiteout through a symbolic link": [symlink("door", victim), file("door/.wh.canary")],
    "an opaque directory outside": [file(`${climb}/.wh..wh..opq`), symlink("door", victim), file("door/.wh..wh..opq")],
    "a whiteout of everything": [file(".wh..")],
    "a whiteout of the parent": [file(".wh...")],
    "devices outside": [
      { path: `${climb}/device`, type: "character device", mode: 0o666, major: 1, minor: 3 },
      symlink("door", victim),
      { path: "door/device", type: "block device", mode: 0o666, major: 8, minor: 0 },
      { path: "door/pipe", type: "pipe", mode: 0o666 },
    ],
    "a file below a file": [file("a"), file("a/b")],
    "a name with a null byte in its pax record": [file(`${"n".repeat(120)}\0/evil`)],
    "the root as a file": [file(".")],
    "the root as a symbolic link": [symlink(".", victim), file("evil")],
  };
  const whole = packTar([
    directory("etc"),
    { path: "etc/big", type: "file", mode: 0o644, content: Buffer.alloc(40_000, 7) },
  ]);
  const zipped = gzipSync(whole);
  const badSum = Buffer.from(whole);
  badSum.write("9999999\0", 148, "latin1");
  return [
    ...Object.entries(archives).map(([name, entries]) => layerOf(name, packTar(entries))),
    layerOf("an archive that ends within a file", whole.subarray(0, 20_000)),
    layerOf("an archive that ends within a header", whole.subarray(0, 700)),
    layerOf("a wrong checksum in a header", badSum),
    layerOf("no archive", Buffer.from("hello".repeat(1000))),
    { ...layerOf("a compressed stream that ends early", whole), blob: zipped.subarray(0, zipped.length - 30) },
    {
      ...layerOf("a compressed stream with rubbish in it", whole),
      blob: damage(zipped),
      isErrorComparable: false,
    },
    { ...layerOf("a digest of the archive that is wrong", whole), diffId: digestOf(evil) },
  ];
}

/** Writes an image with one such layer as an archive for `ctr images import`. */
export async function writeHostileImage(directory: string, name: string, layer: HostileLayer): Promise<string> {
  const layout = `${directory}/layout`;
  await mkdir(`${layout}/blobs/sha256`, { recursive: true });
  const digests: string[] = [];
  const put = async (mediaType: string, bytes: Buffer): Promise<object> => {
    const digest = digestOf(bytes);
    await writeFile(`${layout}/blobs/${digest.replace(":", "/")}`, bytes);
    digests.push(digest);
    return { mediaType, digest, size: bytes.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const { os, architecture, variant } = hostPlatform();
  const platform = { os, architecture, ...(variant === "" ? {} : { variant }) };
  const layers = [await put("application/vnd.oci.image.layer.v1.tar+gzip", layer.blob)];
  const config = { ...platform, config: {}, rootfs: { type: "layers", diff_ids: [layer.diffId] } };
  const manifestType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = await put(
    manifestType,
    json({
      schemaVersion: 2,
      mediaType: manifestType,
      config: await put("application/vnd.oci.image.config.v1+json", json(config)),
      layers,
    }),
  );
  const annotations = { "io.containerd.image.name": name, "org.opencontainers.image.ref.name": "test" };
  await writeFile(`${layout}/oci-layout`, json({ imageLayoutVersion: "1.0.0" }));
  await writeFile(
    `${layout}/index.json`,
    json({ schemaVersion: 2, manifests: [{ ...manifest, platform, annotations }] }),
  );
  const archive = `${directory}/image.tar`;
  await packLayout(layout, archive, digests);
  return archive;
}

function layerOf(name: string, archive: Buffer): HostileLayer {
  return { name, blob: gzipSync(archive), diffId: digestOf(archive), isErrorComparable: true };
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

function damage(bytes: Buffer): Buffer {
  const damaged = Buffer.from(bytes);
  damaged.fill(0xff, Math.floor(bytes.length / 2), Math.floor(bytes.length / 2) + 16);
  return damaged;
}
