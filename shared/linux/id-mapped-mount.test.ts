import assert from "node:assert/strict";
import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import test, { type TestContext } from "node:test";
import { mountAll } from "./mount.ts";
import { mountPointsBelow, unmountAll, unmountRecursive } from "./unmount.ts";

const skip = process.geteuid?.() !== 0 && "mounts need root";
const mapping = ["uidmap=0:100000:1000,1000:200000:1", "gidmap=0:300000:1000"];

function makeTree(context: TestContext): string {
  const path = mkdtempSync(`${tmpdir()}/flotilla-ids-`);
  context.after(async () => {
    await unmountRecursive(path, { detach: true });
    rmSync(path, { recursive: true });
  });
  for (const name of ["source/lower1", "source/lower2", "upper", "work", "shown"]) {
    mkdirSync(`${path}/${name}`, { recursive: true });
  }
  writeFileSync(`${path}/source/lower1/one`, "one");
  writeFileSync(`${path}/source/lower2/two`, "two");
  chownSync(`${path}/source/lower2/two`, 1000, 5);
  return path;
}

const ownerOf = (path: string): number[] => {
  const { uid, gid } = statSync(path);
  return [uid, gid];
};

test("a bind mount shows other owners", { skip }, async (context) => {
  const path = makeTree(context);
  await mountAll([{ type: "bind", source: `${path}/source`, options: [...mapping, "rbind"] }], `${path}/shown`);
  assert.deepEqual(ownerOf(`${path}/shown/lower1/one`), [100_000, 300_000]);
  assert.deepEqual(ownerOf(`${path}/shown/lower2/two`), [200_000, 300_005]);
  await unmountAll(`${path}/shown`);
  assert.deepEqual(await mountPointsBelow(path), []);
});

test("the lower directories of an overlay show other owners, and nothing else is left mounted", {
  skip,
}, async (context) => {
  const path = makeTree(context);
  const layers = [
    `workdir=${path}/work`,
    `upperdir=${path}/upper`,
    `lowerdir=${path}/source/lower1:${path}/source/lower2`,
  ];
  await mountAll([{ type: "overlay", source: "overlay", options: [...mapping, ...layers] }], `${path}/shown`);
  assert.deepEqual(ownerOf(`${path}/shown/one`), [100_000, 300_000]);
  assert.deepEqual(ownerOf(`${path}/shown/two`), [200_000, 300_005]);
  writeFileSync(`${path}/shown/two`, "changed");
  assert.deepEqual(ownerOf(`${path}/upper/two`), [200_000, 300_005]);
  assert.deepEqual(await mountPointsBelow(path), [`${path}/shown`]);
  assert.deepEqual(readdirSync(path), ["shown", "source", "upper", "work"]);
});

test("maps that make no sense are refused in containerd's words, and nothing is mounted", { skip }, async (context) => {
  const path = makeTree(context);
  for (const [map, message] of [
    ["0:1", "user namespace mappings require the format `container-id:host-id:size`"],
    ["0:-1:1", "invalid mapping 0:-1:1, all IDs and size must be positive integers"],
  ] as const) {
    const options = [`uidmap=${map}`, "gidmap=0:1:1", "rbind"];
    await assert.rejects(mountAll([{ type: "bind", source: `${path}/source`, options }], `${path}/shown`), { message });
  }
  const overlapping = ["uidmap=0:1:5,0:9:5", "gidmap=0:1:5", "rbind"];
  await assert.rejects(mountAll([{ type: "bind", source: `${path}/source`, options: overlapping }], `${path}/shown`), {
    code: "EINVAL",
  });
  assert.deepEqual(await mountPointsBelow(path), []);
});
