import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test, { type TestContext } from "node:test";
import { create } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind } from "#base/errors.ts";
import { Bundles, incarnationOf } from "./bundles.ts";

const typeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

function spec(value: object) {
  return create(AnySchema, { typeUrl, value: Buffer.from(JSON.stringify(value)) });
}

async function open(t: TestContext): Promise<{ bundles: Bundles; path: string }> {
  const path = await mkdtemp(`${tmpdir()}/flotilla-bundle-`);
  t.after(() => rm(path, { recursive: true }));
  const bundles = new Bundles({ state: `${path}/state`, root: `${path}/root` });
  await bundles.prepare();
  return { bundles, path };
}

test("a bundle has the specification byte for byte, and a working directory", async (t) => {
  const { bundles, path } = await open(t);
  const bundle = bundles.create("blue", "one", spec({ ociVersion: "1.0", odd: "\u2028 \\/" }));
  assert.equal(bundle.path, `${path}/state/blue/one`);
  assert.equal(await readlink(`${bundle.path}/work`), bundle.workPath);
  assert.deepEqual(await readFile(`${bundle.path}/config.json`), spec({ ociVersion: "1.0", odd: "\u2028 \\/" }).value);
  assert.equal((await stat(bundle.path)).mode & 0o777, 0o700);
  assert.throws(() => bundles.create("blue", "one", undefined), {
    kind: ErrorKind.Unknown,
    message: `mkdir ${bundle.path}: file exists`,
  });
  assert.throws(() => bundles.create("blue", "../x", undefined), {
    kind: ErrorKind.InvalidArgument,
    message: /^invalid task id \.\.\/x: identifier "\.\.\/x" must match/,
  });
});

test("the group that is root in the container may walk into the bundle", {
  skip: process.geteuid?.() !== 0 && "changing groups needs root",
}, async (t) => {
  const { bundles } = await open(t);
  const mapped = {
    linux: {
      gidMappings: [
        { containerID: 5, hostID: 1 },
        { containerID: 0, hostID: 4242, size: 9 },
      ],
    },
  };
  const found = await stat(bundles.create("blue", "one", spec(mapped)).path);
  assert.deepEqual([found.mode & 0o777, found.gid], [0o710, 4242]);
});

test("a bundle that can't be made leaves nothing", async (t) => {
  const { bundles, path } = await open(t);
  const broken = create(AnySchema, { typeUrl, value: Buffer.from('{"gidMappings"') });
  assert.throws(() => bundles.create("blue", "one", broken));
  assert.deepEqual(await bundles.list(), { bundles: [], hidden: [], refused: [] });
  await symlink(path, `${path}/state/red`);
  assert.throws(() => bundles.create("red", "one", undefined), /is no directory/);
});

test("removing hides first and keeps files that somebody left in the root file system", async (t) => {
  const { bundles, path } = await open(t);
  const bundle = bundles.create("blue", "one", spec({}));
  const incarnation = await incarnationOf(bundle);
  await writeFile(`${bundle.path}/rootfs/file`, "");
  const kept = await bundles.hide(bundle);
  await assert.rejects(bundles.erase(kept), /failed to remove bundle rootfs/);
  assert.deepEqual(await readdir(`${kept.path}/rootfs`), ["file"]);

  const other = bundles.create("blue", "two", spec({}));
  await mkdir(`${path}/state/blue/.two/left`, { recursive: true });
  const hidden = await bundles.hide(other);
  const listed = await bundles.list();
  assert.deepEqual(new Set(listed.hidden), new Set([kept, hidden]));
  assert.deepEqual(listed.bundles, []);
  await bundles.erase(hidden);
  assert.deepEqual(await readdir(`${path}/state/blue`), [".one"]);
  assert.deepEqual(await readdir(`${path}/root/blue`), ["one"]);
  assert.equal(await incarnationOf(kept), incarnation);
});

test("working directories without a bundle are erased, and no others", async (t) => {
  const { bundles, path } = await open(t);
  bundles.create("blue", "one", spec({}));
  await mkdir(`${path}/root/blue/stray/deep`, { recursive: true });
  await bundles.eraseStrayWorkDirectories();
  assert.deepEqual(await readdir(`${path}/root/blue`), ["one"]);
});
