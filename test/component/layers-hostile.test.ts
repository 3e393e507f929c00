import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import test, { type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { mountPointsBelow } from "#linux/unmount.ts";
import { MemberType } from "#tar/tar-format.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { describeTree, type Tree } from "../kit/tree.ts";
import { archiveOf, base256 } from "./layer-corpus/raw-member.ts";
import { applyFile, layerOf, type Member } from "./layer-rig.ts";

interface HostileLayer {
  readonly name: string;
  readonly layer: Buffer | readonly Member[];
  /** What the error says, if there has to be one. */
  readonly error?: RegExp;
  /** Paths in the tree afterwards, with the targets of links. */
  readonly leaves?: readonly string[];
}

const symlink = (name: string, linkName: string): Member => ({ name, linkName, type: MemberType.Symlink });
const hardLink = (name: string, linkName: string): Member => ({ name, linkName, type: MemberType.HardLink });
const deep = (depth: number): string => "d/".repeat(depth);

/** `OUTSIDE` in names and links is the path of a directory beside the tree. */
const hostileLayers: readonly HostileLayer[] = [
  {
    name: "names that climb out of the tree",
    layer: [{ name: "../../../a" }, { name: "x/../../b" }, { name: "/../c" }, { name: "./../d/" }],
    leaves: ["a", "b", "c", "d"],
  },
  { name: "absolute names", layer: [{ name: "/a" }, { name: "//b//c" }, { name: "OUTSIDE/d" }] },
  {
    name: "the tree itself in other words",
    layer: [{ name: "/" }, { name: "." }, { name: "a/.." }, { name: "" }],
    leaves: [],
  },
  {
    name: "the tree itself as a file or link",
    layer: [{ name: "./", type: MemberType.Regular }, symlink("/", "OUTSIDE"), symlink("..", "OUTSIDE")],
    leaves: [],
  },
  {
    name: "a link to a directory outside, then a file through it",
    layer: [symlink("link", "OUTSIDE"), { name: "link/new", data: "new" }, { name: "link/secret", data: "changed" }],
  },
  {
    name: "a relative link to a directory outside, then a file through it",
    layer: [symlink("link", "../../../../../../../../OUTSIDE"), { name: "link/new", data: "new" }],
  },
  {
    name: "a chain of links",
    layer: [symlink("one", "two"), symlink("two", "../three"), symlink("three", "/OUTSIDE"), { name: "one/new" }],
  },
  {
    name: "links in a circle",
    layer: [symlink("one", "two"), symlink("two", "one"), { name: "one/new" }],
    error: /too many (?:levels of symbolic )?links/,
  },
  { name: "a link to itself", layer: [symlink("one", "one/x"), { name: "one/new" }], error: /too many/ },
  {
    name: "a file in the place of a link to a file outside",
    layer: [symlink("link", "OUTSIDE/secret"), { name: "link", data: "changed" }],
    leaves: ["link"],
  },
  {
    name: "a directory in the place of a link to a directory outside",
    layer: [
      symlink("link", "OUTSIDE"),
      { name: "link/", mode: 0o777, user: 7 },
      { name: "link/secret", data: "changed" },
    ],
    leaves: ["link", "link/secret"],
  },
  {
    name: "a link through /proc",
    layer: [symlink("link", "/proc/self/root"), { name: "link/new" }],
    leaves: ["link -> /proc/self/root", "proc", "proc/self", "proc/self/root", "proc/self/root/new"],
  },
  { name: "a hard link to a file outside", layer: [hardLink("link", "OUTSIDE/secret")], error: /no such file/ },
  {
    name: "a hard link with dots",
    layer: [hardLink("link", "../../../../../..OUTSIDE/secret")],
    error: /no such file/,
  },
  {
    name: "a hard link through a link",
    layer: [symlink("way", "OUTSIDE"), hardLink("link", "way/secret")],
    error: /no such file/,
  },
  {
    name: "a hard link to a link to a file outside",
    layer: [symlink("way", "OUTSIDE/secret"), hardLink("link", "way"), { name: "link", data: "changed" }],
    leaves: ["link", "way -> OUTSIDE/secret"],
  },
  {
    name: "a hard link to a directory",
    layer: [{ name: "d/" }, hardLink("link", "d")],
    error: /operation not permitted/,
  },
  { name: "a hard link to the tree", layer: [hardLink("link", "/")], error: /operation not permitted/ },
  { name: "a hard link to what is above the tree", layer: [hardLink("link", "..")], error: /operation not permitted/ },
  { name: "a hard link to itself", layer: [hardLink("link", "link")], error: /no such file/ },
  { name: "whiteouts of what is above", layer: [{ name: ".wh..." }], error: /invalid whiteout name/ },
  { name: "whiteouts of the directory", layer: [{ name: "d/.wh.." }], error: /invalid whiteout name/ },
  { name: "whiteouts of nothing", layer: [{ name: "d/.wh." }], error: /invalid whiteout name/ },
  {
    name: "whiteouts through a link",
    layer: [symlink("link", "OUTSIDE"), { name: "link/.wh.secret" }, { name: "link/.wh..wh..opq" }],
  },
  { name: "whiteouts with dots", layer: [{ name: "../.wh.outside" }, { name: "../other/.wh.secret" }] },
  {
    name: "a device that no kernel has",
    layer: [{ name: "dev", type: MemberType.Character, deviceMajor: 0o7777777, deviceMinor: 0o7777777 }],
    error: /invalid argument/,
  },
  {
    name: "a device whose number becomes that mark when it is cut",
    layer: archiveOf({ name: "dev", type: "3", magic: "gnu", major: base256(2n ** 40n, 8), minor: base256(0n, 8) }),
    error: /invalid argument/,
  },
  { name: "the mark of a removal as a device", layer: [{ name: "dev", type: MemberType.Character }], leaves: ["dev"] },
  {
    name: "attributes that the kernel trusts",
    layer: [{ name: "d/", attributes: { "trusted.overlay.redirect": "/OUTSIDE", "trusted.overlay.opaque": "y" } }],
    leaves: ["d"],
  },
  {
    name: "an attribute with an endless name",
    layer: [{ name: "f", attributes: { [`user.${"x".repeat(300)}`]: "" } }],
    error: /failed to setxattr|xattr/,
  },
  { name: "an attribute of no name space", layer: [{ name: "f", attributes: { plain: "" } }], leaves: ["f"] },
  { name: "a name that is too long", layer: [{ name: "n".repeat(300) }], error: /file name too long/ },
  { name: "a path that is too long", layer: [{ name: `${deep(3000)}f` }], error: /file name too long/ },
  { name: "a million directories in each other", layer: [{ name: deep(500_000) }], error: /file name too long/ },
  { name: "a link that is too long", layer: [symlink("link", "l".repeat(5000))], error: /file name too long/ },
  { name: "a link to nowhere", layer: [symlink("link", "")], error: /no such file/ },
  { name: "a file below a file", layer: [{ name: "f" }, { name: "f/g" }], error: /not a directory/ },
  { name: "a kind that does not exist", layer: [{ name: "f", type: "Z" }], error: /unhandled tar header type 90/ },
  { name: "an old sparse file", layer: [{ name: "f", type: "S" }], error: /unhandled tar header type 83/ },
  { name: "a NUL in a name", layer: withPaxHeader("12 path=a\0b\n"), error: /invalid tar header/ },
  { name: "more bytes than there are", layer: withPaxHeader("25 size=9000000000000000\n"), error: /unexpected EOF/ },
  { name: "fewer bytes than none", layer: withPaxHeader("11 size=-1\n"), error: /invalid tar header/ },
  {
    name: "a pax header of 8 GiB",
    layer: withSize(layerOf({ name: "x", type: "x" }), "77777777777"),
    error: /header field too long/,
  },
  {
    name: "a checksum that is wrong",
    layer: Buffer.concat([Buffer.from("X"), layerOf({ name: "file" }).subarray(1)]),
    error: /invalid tar header/,
  },
  { name: "half a header", layer: layerOf({ name: "file" }).subarray(0, 300), error: /unexpected EOF/ },
  {
    name: "half a file",
    layer: layerOf({ name: "file", data: "x".repeat(5000) }).subarray(0, 2000),
    error: /unexpected EOF/,
  },
  { name: "half a gzip stream", layer: gzipSync(layerOf({ name: "file" })).subarray(0, 60), error: /unexpected EOF/ },
  { name: "rubbish", layer: Buffer.from("rubbish ".repeat(100)), error: /invalid tar header/ },
  { name: "nothing", layer: Buffer.alloc(0), leaves: [] },
];

/** A pax header of which nothing is checked, and a member after it. */
function withPaxHeader(body: string): Buffer {
  return layerOf({ name: "pax", type: "x", data: body }, { name: "file" });
}

function withSize(layer: Buffer, octal: string): Buffer {
  layer.write(octal, 124);
  layer.fill(" ", 148, 156);
  const sum = layer.subarray(0, 512).reduce((total, value) => total + value, 0);
  layer.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return layer;
}

interface Rig {
  readonly path: string;
  readonly threads: LayerThreads;
}

async function openRig(context: TestContext): Promise<Rig> {
  const directory = await makeTemporaryDirectory("hostile");
  const threads = new LayerThreads();
  context.after(async () => {
    await threads[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  return { path: directory.path, threads };
}

function namesIn(tree: Tree): string[] {
  return [...tree]
    .filter(([name]) => name !== ".")
    .map(([name, { linkTarget }]) => (linkTarget === undefined ? name : `${name} -> ${linkTarget}`));
}

/** Open descriptors, once they are as many as wanted or have not changed for a while: files are closed on other threads. */
async function settledDescriptors(wanted = -1): Promise<number> {
  let count = -1;
  for (let same = 0; same < 20 && count !== wanted; ) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const now = readdirSync("/proc/self/fd").length;
    same = now === count ? same + 1 : 0;
    count = now;
  }
  return count;
}

test("hostile layers do nothing outside their tree", { timeout: 120_000 }, async (context) => {
  const { path, threads } = await openRig(context);
  const outside = `${path}/outside`;
  mkdirSync(outside);
  writeFileSync(`${outside}/secret`, "secret");
  const before = describeTree(outside);
  mkdirSync(`${path}/first`);
  writeFileSync(`${path}/layer`, layerOf());
  await applyFile(threads, `${path}/layer`, { root: `${path}/first`, whiteouts: "remove", lowers: [] });
  const descriptorsBefore = await settledDescriptors();
  for (const whiteouts of ["remove", "overlay"] as const) {
    for (const [index, { name, layer, error, leaves }] of hostileLayers.entries()) {
      await context.test(`${name} (${whiteouts})`, async () => {
        const root = `${path}/${whiteouts}-${index}`;
        mkdirSync(root);
        const place = (text: string): string => text.replaceAll("OUTSIDE", outside);
        const bytes =
          layer instanceof Buffer
            ? layer
            : layerOf(
                ...(layer as readonly Member[]).map((member) => ({
                  ...member,
                  name: place(member.name),
                  ...(member.linkName === undefined ? {} : { linkName: place(member.linkName) }),
                })),
              );
        writeFileSync(`${path}/layer`, bytes);
        const applied = applyFile(threads, `${path}/layer`, { root, whiteouts, lowers: [] });
        if (error === undefined) {
          await applied;
        } else {
          await assert.rejects(applied, { message: error, kind: "unknown" });
        }
        assert.deepEqual(describeTree(outside), before, "something outside has changed");
        assert.equal(statSync(`${outside}/secret`).nlink, 1);
        if (leaves !== undefined) {
          assert.deepEqual(namesIn(describeTree(root)), leaves.map(place));
          assert.ok([...describeTree(root).values()].every(({ xattrs }) => xattrs === undefined));
        }
      });
    }
  }
  assert.equal(await settledDescriptors(descriptorsBefore), descriptorsBefore, "descriptors were left open");
  assert.deepEqual(
    readdirSync(path)
      .filter((name) => !/^(?:remove|overlay)-\d+$/.test(name))
      .sort(),
    ["first", "layer", "outside"],
  );
  assert.deepEqual(await mountPointsBelow(path), []);
});

test("a directory that is swapped for a link while a layer is written leads nowhere", {
  timeout: 60_000,
}, async (context) => {
  const { path, threads } = await openRig(context);
  mkdirSync(`${path}/outside`);
  mkdirSync(`${path}/root`);
  const members: Member[] = [];
  for (let index = 0; index < 300; index += 1) {
    members.push({ name: `d${index}/` }, symlink(`d${index}`, `${path}/outside`), {
      name: `d${index}/file`,
      data: "x",
    });
  }
  writeFileSync(`${path}/layer`, layerOf(...members));
  await applyFile(threads, `${path}/layer`, { root: `${path}/root`, whiteouts: "remove", lowers: [] });
  assert.deepEqual(readdirSync(`${path}/outside`), []);
  // The links mean the same path inside the tree.
  assert.deepEqual(readdirSync(`${path}/root${path}/outside`), ["file"]);
});

test("links that were there before the layer lead nowhere either", async (context) => {
  const { path, threads } = await openRig(context);
  mkdirSync(`${path}/outside`);
  writeFileSync(`${path}/outside/secret`, "secret");
  mkdirSync(`${path}/root`);
  symlinkSync(`${path}/outside`, `${path}/root/link`);
  symlinkSync(`${path}/outside/secret`, `${path}/root/file`);
  writeFileSync(
    `${path}/layer`,
    layerOf(
      { name: "link/secret", data: "changed" },
      { name: "link/.wh.secret" },
      { name: "file", data: "changed", mode: 0o777 },
    ),
  );
  await applyFile(threads, `${path}/layer`, { root: `${path}/root`, whiteouts: "remove", lowers: [] });
  assert.equal(readFileSync(`${path}/outside/secret`, "utf8"), "secret");
  assert.deepEqual(readdirSync(`${path}/outside`), ["secret"]);
  assert.equal(readFileSync(`${path}/root/file`, "utf8"), "changed");
});
