import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import * as fc from "fast-check";
import { asByteString, toByteString } from "#linux/bytes.ts";
import { makeNodeAt, workingDirectory } from "#linux/file.ts";
import { FileType } from "#linux/stat.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";
import { archiveEnd, encodeMember, paddingOf } from "#tar/tar-writer.ts";
import type { AppliedLayer } from "../../services/snapshots/layers/apply.ts";
import type { Compression } from "../../services/snapshots/layers/compression.ts";
import type { ExtractionTarget } from "../../services/snapshots/layers/extractor.ts";
import type { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";

/** A member of a layer as a test writes it. */
export type Member = Partial<Omit<TarMember, "name" | "linkName" | "attributes">> & {
  readonly name: string;
  readonly linkName?: string;
  readonly data?: string | Buffer;
  readonly attributes?: Readonly<Record<string, string>>;
};

/** Encodes members as a layer. Names are bytes in characters, so that tests can write any. */
export function layerOf(...members: readonly Member[]): Buffer {
  const parts = members.flatMap(({ data = "", name, linkName = "", attributes = {}, ...rest }) => {
    const content = Buffer.from(data);
    const member: TarMember = {
      type: name.endsWith("/") ? MemberType.Directory : MemberType.Regular,
      mode: 0o644,
      user: 0,
      group: 0,
      sizeBytes: content.length,
      modified: { seconds: 1_000_000_000, nanoseconds: 0 },
      accessed: undefined,
      deviceMajor: 0,
      deviceMinor: 0,
      ...rest,
      name: asByteString(name),
      linkName: asByteString(linkName),
      attributes: new Map(
        Object.entries(attributes).map(([key, value]) => [toByteString(key), Buffer.from(value, "latin1")]),
      ),
    };
    return [encodeMember(member), content, paddingOf(content.length)];
  });
  return Buffer.concat([...parts, archiveEnd]);
}

const never = new AbortController().signal;

/** Applies a layer from a file. */
export function applyFile(threads: LayerThreads, blobPath: string, target: ExtractionTarget): Promise<AppliedLayer> {
  const job = {
    blobPath,
    blobBytes: 0,
    steps: [{ kind: "decompress" }] as const,
    payloads: new Map(),
    target,
    syncFileSystem: false,
    measures: false,
    limits: { entriesMax: 0, depthMax: 0, ratioMax: 0 },
  };
  return threads.apply(job, never);
}

/** Applies a layer to a directory that shows the whole file system. */
export function applyTo(threads: LayerThreads, blobPath: string, root: string): Promise<AppliedLayer> {
  return applyFile(threads, blobPath, { root, whiteouts: "remove", lowers: [] });
}

/** Writes the difference between two trees to a buffer. */
export async function compareTo(
  threads: LayerThreads,
  trees: { readonly lower: string; readonly upper: string; readonly overlayUpper?: string },
  compression: Compression = "none",
): Promise<{ readonly layer: Buffer; readonly uncompressedDigest: string }> {
  const job = { trees: { overlayUpper: undefined, ...trees }, compression, latest: undefined };
  const pieces = threads.compare(job, never);
  const parts: Uint8Array[] = [];
  for (;;) {
    const { done, value } = await pieces.next();
    if (done === true) {
      return { layer: Buffer.concat(parts), ...value };
    }
    parts.push(value);
  }
}

/** Runs a program to its end. @throws Error with what it said. */
export function run(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** A tree with one of everything that a layer can hold. */
export function makeRichTree(root: string): void {
  mkdirSync(`${root}/bin`, { recursive: true });
  mkdirSync(`${root}/var/empty`, { recursive: true, mode: 0o700 });
  writeFileSync(`${root}/bin/tool`, "#!/bin/sh\n".repeat(1000));
  writeFileSync(`${root}/bin/empty`, "");
  linkSync(`${root}/bin/tool`, `${root}/var/same-tool`);
  symlinkSync("../bin/tool", `${root}/var/link`);
  symlinkSync("/nowhere", `${root}/var/dangling`);
  linkSync(`${root}/var/dangling`, `${root}/var/same-dangling`);
  writeFileSync(Buffer.from(`${root}/caf\xe9`, "latin1"), "not UTF-8");
  writeFileSync(`${root}/${"long-".repeat(40)}name`, "long");
  mkdirSync(`${root}/${"d".repeat(90)}/${"e".repeat(90)}`, { recursive: true });
  writeFileSync(`${root}/${"d".repeat(90)}/${"e".repeat(90)}/file`, "deep");
  for (const [name, mode] of [
    ["pipe", FileType.Fifo | 0o620],
    ["null", FileType.Character | 0o666],
    ["disk", FileType.Block | 0o600],
  ] as const) {
    makeNodeAt(workingDirectory, toByteString(`${root}/var/${name}`), mode, name === "pipe" ? 0 : 0x10305);
  }
  run("chmod", "4711", `${root}/bin/tool`);
  run("chmod", "2775", `${root}/var`);
  run("chmod", "1777", `${root}/var/empty`);
  chownSync(`${root}/bin/empty`, 1000, 2_000_000_000);
  run("chown", "-h", "12:34", `${root}/var/link`);
  run("setfattr", "-n", "user.note", "-v", "text", `${root}/bin/empty`);
  run("setfattr", "-n", "security.capability", "-v", "0x0100000200040000000000000000000000000000", `${root}/bin/tool`);
  makeSparseFile(`${root}/var/sparse`);
  run("touch", "-h", "-d", "2001-02-03 04:05:06.123456789", `${root}/bin/tool`, `${root}/var/link`, `${root}/var/pipe`);
  run("touch", "-d", "1999-12-31 23:59:59.5", `${root}/bin`, `${root}/var`);
}

function makeSparseFile(path: string): void {
  const file = openSync(path, "w");
  writeSync(file, "start", 0);
  writeSync(file, "end", 1_000_000);
  closeSync(file);
}

/** A random tree: names from a small alphabet, whole seconds, so that two of them have much in common. */
export interface RandomTree {
  readonly [name: string]: RandomTree | RandomFile;
}

export interface RandomFile {
  readonly kind: "file" | "symlink" | "pipe";
  readonly text: string;
  readonly mode: number;
  readonly owner: number;
  readonly seconds: number;
}

const randomName = fc.constantFrom("a", "b", "c", "ab", "a.b", "z");

const randomFile: fc.Arbitrary<RandomFile> = fc.record({
  kind: fc.constantFrom("file", "file", "file", "symlink", "pipe"),
  text: fc.constantFrom("x", "y", "xx"),
  mode: fc.constantFrom(0o644, 0o600, 0o4755),
  owner: fc.constantFrom(0, 7),
  seconds: fc.constantFrom(1000, 2000),
});

/** Random trees of up to three levels. */
export const randomTree: fc.Arbitrary<RandomTree> = fc.letrec<{ tree: RandomTree }>((tie) => ({
  tree: fc.dictionary(randomName, fc.oneof({ maxDepth: 3, withCrossShrink: true }, randomFile, tie("tree")), {
    maxKeys: 5,
    noNullPrototype: true,
  }),
})).tree;

/** Writes a random tree into a new directory. */
export function makeRandomTree(root: string, tree: RandomTree): void {
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { recursive: true });
  fillDirectory(root, tree);
}

function fillDirectory(directory: string, tree: RandomTree): void {
  for (const [name, node] of Object.entries(tree)) {
    const path = `${directory}/${name}`;
    if (isFile(node)) {
      makeRandomFile(path, node);
    } else {
      mkdirSync(path);
      fillDirectory(path, node);
    }
  }
}

function isFile(node: RandomTree | RandomFile): node is RandomFile {
  return typeof node["text"] === "string";
}

/** Writes a random file; what is there goes. */
export function makeRandomFile(path: string, { kind, text, mode, owner, seconds }: RandomFile): void {
  if (kind === "symlink") {
    symlinkSync(text, path);
  } else if (kind === "pipe") {
    makeNodeAt(workingDirectory, toByteString(path), FileType.Fifo | 0o600, 0);
  } else {
    writeFileSync(path, text);
    chownSync(path, owner, owner);
    chmodSync(path, mode);
  }
  lutimesSync(path, seconds, seconds);
}
