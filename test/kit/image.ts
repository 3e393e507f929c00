import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { bigLayers } from "./big-layers.ts";
import { type ImageParts, type LayoutFacts, packLayout, writeLayout } from "./oci-layout.ts";
import type { TarEntry } from "./tar.ts";

/** An image as a directory and as an archive, for as long as the machine keeps its temporary files. Not to be changed. */
export interface TestImage extends LayoutFacts {
  /** Whole reference, `docker.io/library/<name>:test`. */
  readonly name: string;
  /** Directory with the image as an OCI layout, for `skopeo copy oci:<layout>:test`. */
  readonly layout: string;
  /** The same as one archive, for `ctr images import`. */
  readonly tar: string;
}

/**
 * `docker.io/library/busybox:test`: one layer with Debian's static busybox, all its commands as links, and the usual few files
 * and directories. Its command is `sh`.
 */
export async function busyboxImage(): Promise<TestImage> {
  return await cachedImage("busybox", {}, async () => {
    const base = await busyboxLayer();
    return [() => base];
  });
}

/** `docker.io/library/pause:test`: busybox whose command sleeps for ever, which is what a pod needs to be kept alive. */
export async function pauseImage(): Promise<TestImage> {
  const config = { Entrypoint: ["/bin/sleep", "1000000000"], User: "65535:65535" };
  return await cachedImage(
    "pause",
    config,
    async () => {
      const base = await busyboxLayer();
      return [() => base];
    },
    config,
  );
}

/** How big {@link bigImage} is. */
export interface BigImageSize {
  /** Number of layers, at least 2. */
  readonly layers: number;
  /** Sum of the content of all files, in MiB. */
  readonly sizeMb: number;
  /** Number of regular files in all layers together, those of busybox left out. */
  readonly files: number;
}

/**
 * `docker.io/library/big:test`: busybox below layers full of files under `/data`, half of it compressible, the same bytes each
 * time. The layers hold what layers can hold: whiteouts, opaque directories, files over directories and the reverse, hard and
 * symbolic links, extended attributes and capabilities, devices, pipes, set-id and closed modes, foreign owners, times to the
 * nanosecond and before 1970, long names and names in other alphabets.
 */
export async function bigImage({
  layers = 9,
  sizeMb = 200,
  files = 40_000,
}: Partial<BigImageSize> = {}): Promise<TestImage> {
  const size = { layers, sizeMb, files };
  return await cachedImage("big", size, async () => {
    const base = await busyboxLayer();
    return [() => base, ...bigLayers(size)];
  });
}

const shellConfig = { Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], Cmd: ["sh"] };

/** Takes an image out of the cache, or makes it; two processes may do so at the same time. */
async function cachedImage(
  name: string,
  parameters: object,
  makeLayers: () => Promise<ImageParts["layers"]>,
  config: ImageParts["config"] = shellConfig,
): Promise<TestImage> {
  const cache = join(tmpdir(), "flotilla-images");
  const key = await cacheKey(parameters);
  const directory = `${cache}/${name}-${key}`;
  if (!existsSync(directory)) {
    await mkdir(cache, { recursive: true });
    const half = await mkdtemp(`${cache}/.new-`);
    try {
      await makeImage(half, { name, layers: await makeLayers(), config });
      await rename(half, directory);
    } catch (error) {
      await rm(half, { recursive: true, force: true });
      if (!existsSync(directory)) {
        throw error;
      }
    }
  }
  const facts = JSON.parse(readFileSync(`${directory}/facts.json`, "utf8")) as LayoutFacts;
  return { ...facts, name: nameOf(name), layout: `${directory}/layout`, tar: `${directory}/image.tar` };
}

async function makeImage(directory: string, { name, layers, config }: ImageParts): Promise<void> {
  const layout = `${directory}/layout`;
  const facts = await writeLayout(layout, { name: nameOf(name), layers, config });
  const blobs = (await readdir(`${layout}/blobs/sha256`)).sort().map((hex) => `sha256:${hex}`);
  await packLayout(layout, `${directory}/image.tar`, blobs);
  await writeFile(`${directory}/facts.json`, JSON.stringify(facts));
}

function nameOf(name: string): string {
  return `docker.io/library/${name}:test`;
}

/** Changes with what the image is made of and with the code that makes it. */
async function cacheKey(parameters: object): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(parameters));
  for (const source of ["./image.ts", "./big-layers.ts", "./oci-layout.ts", "./tar.ts"]) {
    hash.update(await readFile(new URL(source, import.meta.url)));
  }
  hash.update(await readFile(await findBusybox()));
  return hash.digest("hex").slice(0, 16);
}

async function findBusybox(): Promise<string> {
  const { stdout } = await execa("sh", ["-c", "command -v busybox"]);
  return stdout;
}

async function busyboxLayer(): Promise<TarEntry[]> {
  const busybox = await findBusybox();
  const { stdout } = await execa(busybox, ["--list"]);
  const directory = (path: string, mode = 0o755): TarEntry => ({ path, type: "directory", mode });
  const file = (path: string, text: string): TarEntry => ({
    path,
    type: "file",
    mode: 0o644,
    content: Buffer.from(text),
  });
  return [
    ...["bin", "dev", "etc", "proc", "sys", "usr", "usr/bin", "var"].map((path) => directory(path)),
    directory("root", 0o700),
    directory("tmp", 0o1777),
    { path: "bin/busybox", type: "file", mode: 0o755, content: await readFile(busybox) },
    ...stdout
      .split("\n")
      .filter((command) => command !== "busybox")
      .map((command): TarEntry => ({ path: `bin/${command}`, type: "symlink", mode: 0o777, target: "busybox" })),
    { path: "usr/bin/env", type: "symlink", mode: 0o777, target: "../../bin/busybox" },
    file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n"),
    file("etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"),
    file("etc/hostname", "busybox\n"),
  ];
}
