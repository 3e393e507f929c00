import { createHash } from "node:crypto";
import type { TarEntry } from "./tar.ts";

const filesPerDirectory = 50;
const poolBytes = 8 * 1024 * 1024;

/** 2024-01-01 in nanoseconds since 1970. */
const newYear = 1_704_067_200_000_000_000n;

/**
 * The layers of the big test image above its base, lowest first: `layers - 1` of them share the files and the bytes evenly.
 *
 * Layer `k` has its own tree `data/l<k>`, and from the second on changes that of the layer below it.
 */
export function bigLayers(size: {
  readonly layers: number;
  readonly sizeMb: number;
  readonly files: number;
}): (() => Iterable<TarEntry>)[] {
  const count = size.layers - 1;
  const files = Math.floor(size.files / count);
  const bytesPerFile = Math.floor((size.sizeMb * 1024 * 1024) / Math.max(1, files * count));
  return Array.from({ length: count }, (_, index) => () => makeLayer(index + 1, files, bytesPerFile));
}

function* makeLayer(layer: number, files: number, bytesPerFile: number): Iterable<TarEntry> {
  const random = pseudoRandom(layer);
  const root = `data/l${layer}`;
  yield { path: "data", type: "directory", mode: 0o755, mtimeNs: newYear };
  yield { path: root, type: "directory", mode: 0o755, mtimeNs: newYear + BigInt(layer) };
  for (let index = 0; index < files; index += 1) {
    const directory = `${root}/d${Math.floor(index / filesPerDirectory)}`;
    if (index % filesPerDirectory === 0) {
      yield { path: directory, type: "directory", mode: 0o755, mtimeNs: newYear + BigInt(random()) };
    }
    yield {
      path: `${directory}/f${index}`,
      type: "file",
      mode: index % 10 === 0 ? 0o755 : 0o644,
      mtimeNs: newYear + BigInt(random()) * 1000n + BigInt(index),
      content: makeContent(`${layer}/${index}`, sizeOf(index, bytesPerFile), random),
    };
  }
  yield* oddities(root);
  if (layer > 1) {
    yield* changes(`data/l${layer - 1}`);
  }
}

/** Files of very different size whose mean is the wanted one: of ten, one has half of all bytes. */
function sizeOf(index: number, meanBytes: number): number {
  return index % 10 === 0 ? meanBytes * 5 : Math.floor((meanBytes * 5) / 9);
}

/** What is seldom in images and must survive all the same. */
function* oddities(root: string): Iterable<TarEntry> {
  const odd = `${root}/odd`;
  const content = Buffer.from("odd\n");
  yield { path: odd, type: "directory", mode: 0o2775, gid: 50, mtimeNs: newYear };
  yield { path: `${odd}/setuid`, type: "file", mode: 0o4755, content };
  yield { path: `${odd}/setgid`, type: "file", mode: 0o2711, uid: 12, gid: 34, content };
  yield { path: `${odd}/closed`, type: "file", mode: 0o000, uid: 65_534, gid: 65_534, content };
  yield { path: `${odd}/sticky`, type: "directory", mode: 0o1777 };
  yield { path: `${odd}/old`, type: "file", mode: 0o644, mtimeNs: -86_400_000_000_001n, content };
  yield { path: `${odd}/exact`, type: "file", mode: 0o644, mtimeNs: newYear + 123_456_789n, content };
  yield { path: `${odd}/empty`, type: "file", mode: 0o644 };
  yield {
    path: `${odd}/attributes`,
    type: "file",
    mode: 0o755,
    content,
    xattrs: {
      "user.note": Buffer.from("kept"),
      "user.bytes": Buffer.from([0, 255, 10, 61]),
      "security.capability": Buffer.from("0100000200040000000000000000000000000000", "hex"),
    },
  };
  yield { path: `${odd}/attributes-link`, type: "link", mode: 0o755, target: `${odd}/attributes` };
  yield {
    path: `${odd}/exact-link`,
    type: "link",
    mode: 0o644,
    mtimeNs: newYear + 123_456_789n,
    target: `${odd}/exact`,
  };
  yield { path: `${odd}/relative`, type: "symlink", mode: 0o777, target: "../d0/f0", mtimeNs: newYear + 5n };
  yield { path: `${odd}/absolute`, type: "symlink", mode: 0o777, target: "/etc/passwd", uid: 7, gid: 8 };
  yield { path: `${odd}/dangling`, type: "symlink", mode: 0o777, target: `/${"nowhere/".repeat(20)}` };
  yield { path: `${odd}/null`, type: "character device", mode: 0o666, major: 1, minor: 3 };
  yield { path: `${odd}/loop`, type: "block device", mode: 0o660, gid: 6, major: 7, minor: 0 };
  yield { path: `${odd}/pipe`, type: "pipe", mode: 0o600 };
  yield { path: `${odd}/ὄνομα и имя`, type: "file", mode: 0o644, content };
  yield { path: `${odd}/${"long-name-".repeat(25)}`, type: "file", mode: 0o644, content };
  const deep = `${odd}/${"deep/".repeat(60)}end`;
  for (let slash = deep.indexOf("/", odd.length + 1); slash !== -1; slash = deep.indexOf("/", slash + 1)) {
    yield { path: deep.slice(0, slash), type: "directory", mode: 0o755 };
  }
  yield { path: deep, type: "file", mode: 0o644, content };
}

/** What a layer does to the one below it. */
function* changes(below: string): Iterable<TarEntry> {
  const content = Buffer.from("changed\n");
  const whiteout = (path: string): TarEntry => ({ path, type: "file", mode: 0o644 });
  yield { path: below, type: "directory", mode: 0o755, mtimeNs: newYear + 9n };
  yield { path: `${below}/d0`, type: "directory", mode: 0o750, mtimeNs: newYear + 7n };
  yield whiteout(`${below}/d0/.wh.f1`);
  yield whiteout(`${below}/d0/.wh.f2`);
  yield { path: `${below}/d0/f3`, type: "file", mode: 0o600, uid: 1, content };
  yield { path: `${below}/d0/f4`, type: "directory", mode: 0o755 };
  yield { path: `${below}/d0/f4/inside`, type: "file", mode: 0o644, content };
  yield { path: `${below}/odd`, type: "directory", mode: 0o755, mtimeNs: newYear };
  yield whiteout(`${below}/odd/.wh.sticky`);
  yield { path: `${below}/odd/exact`, type: "file", mode: 0o644, content };
  yield { path: `${below}/odd/deep`, type: "directory", mode: 0o755 };
  yield whiteout(`${below}/odd/deep/.wh..wh..opq`);
  yield { path: `${below}/odd/deep/only`, type: "file", mode: 0o644, content };
  yield { path: `${below}/odd/pipe`, type: "symlink", mode: 0o777, target: "exact" };
}

let pool: Buffer | undefined;

/** Half random bytes, half text, in stretches of 64: compresses to a little more than half. */
function contentPool(): Buffer {
  if (pool === undefined) {
    pool = Buffer.alloc(poolBytes);
    const text = Buffer.from("the quick brown fox jumps over the lazy dog and goes on its way ");
    for (let offset = 0, round = 0; offset < poolBytes; offset += 128, round += 1) {
      createHash("sha512").update(`pool ${round}`).digest().copy(pool, offset);
      text.copy(pool, offset + 64);
    }
  }
  return pool;
}

function makeContent(name: string, sizeBytes: number, random: () => number): Buffer {
  const content = Buffer.alloc(sizeBytes);
  const source = contentPool();
  for (let offset = 0; offset < sizeBytes; ) {
    const start = random() % (poolBytes - 1);
    offset += source.copy(content, offset, start, start + 65_536);
  }
  content.write(name.slice(0, sizeBytes), 0, "latin1");
  return content;
}

/** Numbers of 31 bits, the same for the same seed. @source Marsaglia, "Xorshift RNGs", 2003 */
function pseudoRandom(seed: number): () => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 1) & 0x7fff_ffff;
  };
}
