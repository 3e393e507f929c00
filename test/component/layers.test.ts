import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import test, { type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { mountAll } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { describeTree, type Tree } from "../kit/tree.ts";
import {
  applyFile,
  applyTo,
  compareTo,
  layerOf,
  makeRandomFile,
  makeRandomTree,
  makeRichTree,
  type RandomFile,
  randomTree,
  run,
} from "./layer-rig.ts";

interface Rig {
  readonly path: string;
  readonly threads: LayerThreads;
}

async function openRig(context: TestContext): Promise<Rig> {
  const directory = await makeTemporaryDirectory("layers");
  const threads = new LayerThreads();
  context.after(async () => {
    await threads[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  return { path: directory.path, threads };
}

/** Without the top directory, which a layer does not describe. */
function contentOf(root: string, options?: Parameters<typeof describeTree>[1]): Tree {
  return new Map([...describeTree(root, options)].filter(([path]) => path !== "."));
}

/** Times of directories that a layer does not mention are those of the moment. */
function withoutDirectoryTimes(tree: Tree): unknown {
  return [...tree].map(([path, entry]) => [path, entry.type === "directory" ? { ...entry, mtimeNs: 0n } : entry]);
}

for (const format of ["pax", "gnu"]) {
  test(`a layer of GNU tar (${format}) becomes what GNU tar makes of it`, async (context) => {
    const { path, threads } = await openRig(context);
    makeRichTree(`${path}/source`);
    const attributes = ["--xattrs", "--xattrs-include=*"];
    const options = format === "pax" ? ["--format=pax", "--sparse", ...attributes] : ["--format=gnu"];
    run("tar", ...options, "-C", `${path}/source`, "-cf", `${path}/layer.tar`, ".");
    const archive = readFileSync(`${path}/layer.tar`);
    writeFileSync(`${path}/layer.tar.gz`, gzipSync(archive));
    for (const name of ["ours", "theirs"]) {
      mkdirSync(`${path}/${name}`);
    }
    run("tar", ...(format === "pax" ? attributes : []), "-C", `${path}/theirs`, "-xpf", `${path}/layer.tar`);
    const applied = await applyTo(threads, `${path}/layer.tar.gz`, `${path}/ours`);
    assert.deepEqual(contentOf(`${path}/ours`), contentOf(`${path}/theirs`));
    assert.equal(contentOf(`${path}/ours`).get("bin/tool")?.mode, "4711");
    assert.deepEqual(applied, {
      digest: `sha256:${createHash("sha256").update(archive).digest("hex")}`,
      sizeBytes: archive.length,
      usedBytes: statSync(`${path}/layer.tar.gz`).size,
      implied: [],
    });
    if (format === "pax") {
      assert.ok(statSync(`${path}/ours/var/sparse`).blocks < 100, "holes stay holes");
    }
  });
}

test("GNU tar reads our layers, and they hold what the tree holds", async (context) => {
  const { path, threads } = await openRig(context);
  makeRichTree(`${path}/source`);
  mkdirSync(`${path}/empty`);
  mkdirSync(`${path}/theirs`);
  const { layer, uncompressedDigest } = await compareTo(threads, { lower: `${path}/empty`, upper: `${path}/source` });
  writeFileSync(`${path}/layer.tar`, layer);
  run("tar", "--xattrs", "--xattrs-include=*", "-C", `${path}/theirs`, "-xpf", `${path}/layer.tar`);
  const expected = [...contentOf(`${path}/source`)].map(([name, { xattrs, ...entry }]) => {
    const capability = xattrs?.["security.capability"];
    return [
      name,
      {
        ...entry,
        // A layer has whole seconds, and of the attributes this one.
        mtimeNs: (entry.mtimeNs / 1_000_000_000n) * 1_000_000_000n,
        ...(capability === undefined ? {} : { xattrs: { "security.capability": capability } }),
      },
    ];
  });
  assert.deepEqual([...contentOf(`${path}/theirs`)], expected);
  assert.equal(uncompressedDigest, `sha256:${createHash("sha256").update(layer).digest("hex")}`);
  for (const compression of ["gzip", "zstd"] as const) {
    const trees = { lower: `${path}/empty`, upper: `${path}/source` };
    const compressed = await compareTo(threads, trees, compression);
    assert.equal(compressed.uncompressedDigest, uncompressedDigest);
    writeFileSync(`${path}/layer.${compression}`, compressed.layer);
    rmSync(`${path}/ours`, { recursive: true, force: true });
    mkdirSync(`${path}/ours`);
    assert.equal((await applyTo(threads, `${path}/layer.${compression}`, `${path}/ours`)).digest, uncompressedDigest);
    assert.deepEqual([...contentOf(`${path}/ours`)], expected);
  }
});

test("a difference applied to the older tree gives the newer one", { timeout: 200_000 }, async (context) => {
  const { path, threads } = await openRig(context);
  await fc.assert(
    fc.asyncProperty(randomTree, randomTree, async (before, after) => {
      makeRandomTree(`${path}/before`, before);
      makeRandomTree(`${path}/after`, after);
      const { layer } = await compareTo(threads, { lower: `${path}/before`, upper: `${path}/after` });
      writeFileSync(`${path}/layer.tar`, layer);
      await applyTo(threads, `${path}/layer.tar`, `${path}/before`);
      assert.deepEqual(
        withoutDirectoryTimes(contentOf(`${path}/before`)),
        withoutDirectoryTimes(contentOf(`${path}/after`)),
      );
      const { layer: rest } = await compareTo(threads, { lower: `${path}/before`, upper: `${path}/after` });
      assert.equal(rest.length, 1024, "nothing is left to differ");
    }),
    { numRuns: 40 },
  );
});

test("an upper directory gets what the whole file system would get", { timeout: 200_000 }, async (context) => {
  const { path, threads } = await openRig(context);
  await fc.assert(
    fc.asyncProperty(randomTree, randomTree, async (before, after) => {
      makeRandomTree(`${path}/before`, before);
      makeRandomTree(`${path}/after`, after);
      const { layer } = await compareTo(threads, { lower: `${path}/before`, upper: `${path}/after` });
      writeFileSync(`${path}/layer.tar`, layer);
      await withOverlay(path, async (merged) => {
        await unmountAll(merged);
        const target = { root: `${path}/upper`, whiteouts: "overlay", lowers: [`${path}/before`] } as const;
        await applyFile(threads, `${path}/layer.tar`, target);
        await mountOverlay(path);
        assert.deepEqual(withoutDirectoryTimes(contentOf(merged)), withoutDirectoryTimes(contentOf(`${path}/after`)));
      });
    }),
    { numRuns: 30 },
  );
});

const change: fc.Arbitrary<RandomChange> = fc.record({
  path: fc.array(fc.constantFrom("a", "b", "c", "ab"), { minLength: 1, maxLength: 3 }),
  kind: fc.constantFrom("remove", "directory", "file", "file", "rename", "link", "touch"),
  other: fc.array(fc.constantFrom("a", "b", "c", "new"), { minLength: 1, maxLength: 2 }),
});

test("what an overlay knows of its changes gives the same layer as comparing everything", {
  timeout: 200_000,
}, async (context) => {
  const { path, threads } = await openRig(context);
  await fc.assert(
    fc.asyncProperty(randomTree, fc.array(change, { maxLength: 8 }), async (before, changes) => {
      makeRandomTree(`${path}/before`, before);
      await withOverlay(path, async (merged) => {
        for (const step of changes) {
          makeChange(merged, step);
        }
        const trees = { lower: `${path}/before`, upper: merged };
        const { layer: slow } = await compareTo(threads, trees);
        const { layer: fast } = await compareTo(threads, { ...trees, overlayUpper: `${path}/upper` });
        assert.ok(slow.equals(fast), "the layers differ");
      });
    }),
    { numRuns: 60 },
  );
});

interface RandomChange {
  readonly path: readonly string[];
  readonly kind: "remove" | "directory" | "file" | "rename" | "link" | "touch";
  readonly other: readonly string[];
}

function makeChange(root: string, { path, kind, other }: RandomChange): void {
  const [place, second] = [`${root}/${path.join("/")}`, `${root}/${other.join("/")}`];
  const file: RandomFile = { kind: "file", text: "changed", mode: 0o640, owner: 3, seconds: 3000 };
  const steps = {
    remove: () => rmSync(place, { recursive: true }),
    directory: () => mkdirSync(place, { recursive: true }),
    file: () => {
      rmSync(place, { force: true });
      makeRandomFile(place, file);
    },
    rename: () => run("mv", "-T", place, second),
    link: () => run("ln", "-T", place, second),
    touch: () => run("chmod", "0755", place),
  };
  try {
    steps[kind]();
  } catch {
    // Many random changes cannot be made; those that can are enough.
  }
}

async function mountOverlay(path: string): Promise<void> {
  const options = [`workdir=${path}/work`, `upperdir=${path}/upper`, `lowerdir=${path}/before`, "index=off"];
  await mountAll([{ type: "overlay", source: "overlay", options }], `${path}/merged`);
}

async function withOverlay(path: string, use: (merged: string) => Promise<void>): Promise<void> {
  for (const name of ["upper", "work", "merged"]) {
    rmSync(`${path}/${name}`, { recursive: true, force: true });
    mkdirSync(`${path}/${name}`);
  }
  await mountOverlay(path);
  try {
    await use(`${path}/merged`);
  } finally {
    await unmountAll(`${path}/merged`);
  }
}

test("whiteouts become overlayfs' marks in an upper directory", async (context) => {
  const { path, threads } = await openRig(context);
  mkdirSync(`${path}/upper`);
  writeFileSync(
    `${path}/layer.tar`,
    layerOf(
      { name: "d/" },
      { name: "d/.wh.gone", user: 5, group: 6 },
      { name: "opaque/" },
      { name: "opaque/.wh..wh..opq" },
      { name: "opaque/new", data: "new" },
      { name: ".wh..wh.plnk" },
      { name: ".wh.back" },
      { name: "back/" },
      { name: "stays/" },
      { name: ".wh.stays" },
    ),
  );
  await applyFile(threads, `${path}/layer.tar`, { root: `${path}/upper`, whiteouts: "overlay", lowers: [] });
  const tree = contentOf(`${path}/upper`);
  assert.deepEqual([...tree.keys()], ["back", "d", "d/gone", "opaque", "opaque/new", "stays"]);
  const { type, device, uid, gid } = tree.get("d/gone") ?? assert.fail("no whiteout");
  assert.deepEqual([type, device, uid, gid], ["character device", "0:0", 5, 6]);
  for (const name of ["opaque", "back", "stays"]) {
    assert.deepEqual(tree.get(name)?.xattrs, { "trusted.overlay.opaque": "y" }, name);
  }
});

test("whiteouts delete what lower layers have, and never what their own layer has", async (context) => {
  const { path, threads } = await openRig(context);
  for (const directory of ["opaque/old", "gone/below", "kept"]) {
    mkdirSync(`${path}/root/${directory}`, { recursive: true });
    writeFileSync(`${path}/root/${directory}/file`, "old");
  }
  writeFileSync(
    `${path}/layer.tar`,
    layerOf(
      { name: "opaque/implied/new", data: "new" },
      { name: "opaque/.wh..wh..opq" },
      { name: ".wh.gone" },
      { name: ".wh.was-never-there" },
      { name: "kept/" },
      { name: "kept/new", data: "new" },
      { name: ".wh.kept" },
    ),
  );
  await applyTo(threads, `${path}/layer.tar`, `${path}/root`);
  assert.deepEqual(
    [...contentOf(`${path}/root`).keys()],
    ["kept", "kept/new", "opaque", "opaque/implied", "opaque/implied/new"],
  );
});

test("a directory that a layer does not describe is like the one below it", async (context) => {
  const { path, threads } = await openRig(context);
  mkdirSync(`${path}/upper`);
  mkdirSync(`${path}/lower/known/below`, { recursive: true });
  run("chown", "11:12", `${path}/lower/known`);
  run("chmod", "2750", `${path}/lower/known`);
  run("setfattr", "-n", "user.note", "-v", "text", `${path}/lower/known`);
  run("setfattr", "-n", "trusted.secret", "-v", "text", `${path}/lower/known`);
  run("touch", "-d", "2001-02-03 04:05:06.7", `${path}/lower/known`);
  writeFileSync(`${path}/layer.tar`, layerOf({ name: "known/file" }, { name: "unknown/file" }));
  const target = { root: `${path}/upper`, whiteouts: "overlay", lowers: [`${path}/lower`] } as const;
  await applyFile(threads, `${path}/layer.tar`, target);
  const tree = describeTree(`${path}/upper`);
  const { xattrs, ...lower } = describeTree(`${path}/lower`).get("known") ?? assert.fail("no directory");
  assert.equal(xattrs?.["trusted.secret"], "text");
  assert.deepEqual(tree.get("known"), { ...lower, xattrs: { "user.note": "text" } });
  assert.deepEqual([tree.get("unknown")?.mode, tree.get("unknown")?.uid], ["0755", 0]);
});

test("files take the place of directories and directories that of files", async (context) => {
  const { path, threads } = await openRig(context);
  mkdirSync(`${path}/root/was-directory/below`, { recursive: true });
  mkdirSync(`${path}/root/merged`);
  writeFileSync(`${path}/root/merged/old`, "");
  writeFileSync(`${path}/root/was-file`, "");
  writeFileSync(
    `${path}/layer.tar`,
    layerOf(
      { name: "was-directory", data: "file" },
      { name: "was-file/" },
      { name: "was-file/below", data: "below" },
      { name: "merged/", mode: 0o700 },
      { name: "merged/new" },
      { name: "twice", data: "first" },
      { name: "twice", data: "second" },
    ),
  );
  await applyTo(threads, `${path}/layer.tar`, `${path}/root`);
  const tree = contentOf(`${path}/root`);
  assert.deepEqual(
    [...tree].map(([name, { type }]) => `${name} ${type}`),
    [
      "merged directory",
      "merged/new file",
      "merged/old file",
      "twice file",
      "was-directory file",
      "was-file directory",
      "was-file/below file",
    ],
  );
  assert.equal(tree.get("merged")?.mode, "0700");
  assert.equal(readFileSync(`${path}/root/twice`, "utf8"), "second");
});

test("modes do not depend on umask, setgid directories or default ACLs", async (context) => {
  const { path, threads } = await openRig(context);
  mkdirSync(`${path}/root`);
  const acl = Buffer.concat([
    Buffer.from("02000000", "hex"),
    Buffer.from("01000700ffffffff04000500ffffffff20000000ffffffff", "hex"),
  ]);
  writeFileSync(
    `${path}/layer.tar`,
    layerOf(
      { name: "group/", mode: 0o2777, group: 50 },
      { name: "group/file", mode: 0o666 },
      { name: "group/below/", mode: 0o777 },
      { name: "acl/", mode: 0o777, attributes: { "system.posix_acl_default": acl.toString("latin1") } },
      { name: "acl/file", mode: 0o666 },
      { name: "open", mode: 0o777 },
    ),
  );
  await applyTo(threads, `${path}/layer.tar`, `${path}/root`);
  const told = [...contentOf(`${path}/root`)].map(([name, { mode, gid }]) => `${name} ${mode} ${gid}`);
  assert.deepEqual(told, [
    "acl 0777 0",
    "acl/file 0666 0",
    "group 2777 50",
    "group/below 0777 0",
    "group/file 0666 0",
    "open 0777 0",
  ]);
});

test("a job that is cancelled ends, and its thread does the next one", async (context) => {
  const { path, threads } = await openRig(context);
  mkdirSync(`${path}/root`);
  const members = Array.from({ length: 20_000 }, (_, index) => ({ name: `file-${index}`, data: "x".repeat(1000) }));
  writeFileSync(`${path}/large.tar`, layerOf(...members));
  writeFileSync(`${path}/small.tar`, layerOf({ name: "small" }));
  const canceling = new AbortController();
  const job = {
    blobPath: `${path}/large.tar`,
    blobBytes: 0,
    steps: [],
    payloads: new Map(),
    target: { root: `${path}/root`, whiteouts: "remove", lowers: [] },
    syncFileSystem: false,
    measures: false,
    limits: { entriesMax: 0, depthMax: 0, ratioMax: 0 },
  } as const;
  const applied = threads.apply(job, canceling.signal);
  while (readdirSync(`${path}/root`).length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  canceling.abort();
  await assert.rejects(applied, { message: "context canceled" });
  assert.ok(readdirSync(`${path}/root`).length < members.length);
  await Promise.all(
    Array.from({ length: 6 }, async (_, index) => {
      mkdirSync(`${path}/root-${index}`);
      await applyTo(threads, `${path}/small.tar`, `${path}/root-${index}`);
      assert.deepEqual(readdirSync(`${path}/root-${index}`), ["small"]);
    }),
  );
});

test("whoever stops reading a layer early ends its writing", async (context) => {
  const { path, threads } = await openRig(context);
  mkdirSync(`${path}/empty`);
  mkdirSync(`${path}/tree`);
  for (let index = 0; index < 40; index += 1) {
    writeFileSync(`${path}/tree/${index}`, Buffer.alloc(1024 * 1024));
  }
  const job = {
    trees: { lower: `${path}/empty`, upper: `${path}/tree`, overlayUpper: undefined },
    compression: "none",
    latest: undefined,
  } as const;
  for await (const piece of threads.compare(job, new AbortController().signal)) {
    assert.equal(piece.length, 256 * 1024);
    break;
  }
  const before = Object.keys(process.getActiveResourcesInfo()).length;
  for await (const _ of threads.compare(job, new AbortController().signal)) {
    break;
  }
  assert.equal(Object.keys(process.getActiveResourcesInfo()).length, before);
});

test("a job that is under way when everything is closed fails, and so do those that wait", async (context) => {
  const { path } = await openRig(context);
  const threads = new LayerThreads();
  mkdirSync(`${path}/root`);
  const members = Array.from({ length: 20_000 }, (_, index) => ({ name: `file-${index}` }));
  writeFileSync(`${path}/large.tar`, layerOf(...members));
  const jobs = Array.from({ length: 8 }, () => applyTo(threads, `${path}/large.tar`, `${path}/root`));
  const outcomes = Promise.allSettled(jobs);
  while (readdirSync(`${path}/root`).length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await threads[Symbol.asyncDispose]();
  for (const outcome of await outcomes) {
    assert.equal(outcome.status, "rejected");
    assert.match(
      (outcome.reason as Error).message,
      /^the (?:thread that did the work has ended|process is stopping): unavailable$/,
    );
  }
  await assert.rejects(applyTo(threads, `${path}/large.tar`, `${path}/root`), {
    message: "the process is stopping: unavailable",
  });
});
