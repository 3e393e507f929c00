import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import test from "node:test";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { startContainerd } from "../kit/daemon.ts";
import { writeLayout } from "../kit/oci-layout.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { describeTree } from "../kit/tree.ts";
import { containerdApplier, ourApplier, tarApplier } from "./layer-appliers.ts";
import { compareTo, makeRichTree, run } from "./layer-rig.ts";

const lacking = ["containerd", "umoci"].filter((program) => spawnSync(program, ["--version"]).error !== undefined);

/** Changes a tree in all the ways that a layer can tell of. */
function changeTree(root: string): void {
  rmSync(`${root}/bin/empty`);
  rmSync(`${root}/var/null`);
  rmSync(`${root}/${"d".repeat(90)}`, { recursive: true });
  writeFileSync(`${root}/${"d".repeat(90)}`, "a file now");
  rmSync(`${root}/var/link`);
  mkdirSync(`${root}/var/link`);
  writeFileSync(`${root}/var/link/inside`, "a directory now");
  rmSync(`${root}/var/empty`, { recursive: true });
  symlinkSync("../bin", `${root}/var/empty`);
  run("chmod", "0700", `${root}/bin`);
  run("chown", "5:6", `${root}/var/pipe`);
  run("touch", "-h", "-d", "2010-01-01 00:00:00", `${root}/var/link`, `${root}/var/empty`, `${root}/var`, root);
}

/** Without the top, and without the times of directories, which the layer above sets where it says nothing of them. */
function contentOf(root: string): unknown {
  return [...describeTree(root)]
    .filter(([path]) => path !== ".")
    .map(([path, entry]) => [path, entry.type === "directory" ? { ...entry, mtimeNs: 0n } : entry]);
}

test("what we write GNU tar, umoci and containerd read with the same result", {
  timeout: 120_000,
  skip: lacking.length > 0 && `${lacking.join(" and ")} are not installed`,
}, async (context) => {
  const directory = await makeTemporaryDirectory("readers");
  const threads = new LayerThreads();
  context.after(async () => {
    await threads[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  const { path } = directory;
  for (const name of ["none", "ours", "tar", "containerd"]) {
    mkdirSync(`${path}/${name}`);
  }
  makeRichTree(`${path}/first`);
  run("cp", "-a", `${path}/first`, `${path}/second`);
  changeTree(`${path}/second`);
  const { layer: lower } = await compareTo(threads, { lower: `${path}/none`, upper: `${path}/first` });
  const { layer: upper } = await compareTo(threads, { lower: `${path}/first`, upper: `${path}/second` });
  const ours = ourApplier(threads, `${path}/layer`);
  assert.equal(await ours(lower, { root: `${path}/ours` }), undefined);
  assert.equal(await tarApplier(lower, { root: `${path}/tar` }), undefined);
  assert.deepEqual(contentOf(`${path}/tar`), contentOf(`${path}/ours`));
  assert.equal(await ours(upper, { root: `${path}/ours` }), undefined);
  await using daemon = await startContainerd();
  const containerd = containerdApplier(daemon);
  for (const layer of [lower, upper]) {
    assert.equal(await containerd(layer, { root: `${path}/containerd` }), undefined);
  }
  assert.deepEqual(contentOf(`${path}/containerd`), contentOf(`${path}/ours`));
  mkdirSync(`${path}/layout`);
  await writeLayout(`${path}/layout`, { name: "readers:test", layers: [() => lower, () => upper], config: {} });
  run("umoci", "raw", "unpack", "--image", `${path}/layout:test`, `${path}/umoci`);
  assert.deepEqual(contentOf(`${path}/umoci`), contentOf(`${path}/ours`));
});
