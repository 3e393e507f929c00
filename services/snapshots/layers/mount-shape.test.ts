import assert from "node:assert/strict";
import test from "node:test";
import type { Mount } from "#linux/mount.ts";
import { findChangedDirectory, findDirectTarget } from "./mount-shape.ts";

function overlay(...options: string[]): Mount {
  return { type: "overlay", source: "overlay", target: "", options };
}

function bind(source: string, ...options: string[]): Mount {
  return { type: "bind", source, target: "", options };
}

const active = overlay("workdir=/3/work", "upperdir=/3/fs", "lowerdir=/2/fs:/1/fs", "index=off");

test("one overlay is written to by its upper directory", () => {
  const target = { root: "/3/fs", whiteouts: "overlay", lowers: ["/2/fs", "/1/fs"] };
  assert.deepEqual(findDirectTarget([active]), target);
  assert.deepEqual(findDirectTarget([overlay("upperdir=/3/fs")]), { ...target, lowers: [] });
  assert.equal(findDirectTarget([overlay("lowerdir=/2/fs:/1/fs")]), undefined);
});

test("one writable bind mount is written to by its source", () => {
  const target = { root: "/1/fs", whiteouts: "remove", lowers: [] };
  assert.deepEqual(findDirectTarget([bind("/1/fs", "rw", "rbind")]), target);
  assert.equal(findDirectTarget([bind("/1/fs", "ro", "rbind")]), undefined);
  assert.equal(findDirectTarget([bind("/1/fs", "uidmap=0:1000:1", "rw", "rbind")]), undefined);
});

test("anything else has to be mounted", () => {
  assert.equal(findDirectTarget([]), undefined);
  assert.equal(findDirectTarget([active, active]), undefined);
  assert.equal(findDirectTarget([{ ...active, target: "below" }]), undefined);
  assert.equal(findDirectTarget([{ type: "ext4", source: "/dev/loop0", options: [] }]), undefined);
});

test("a change lies in the upper directory only if the layers below are those that are compared with", () => {
  assert.equal(findChangedDirectory([overlay("lowerdir=/2/fs:/1/fs", "index=off")], [active]), "/3/fs");
  const second = overlay("workdir=/2/work", "upperdir=/2/fs", "lowerdir=/1/fs", "index=off");
  assert.equal(findChangedDirectory([bind("/1/fs", "ro", "rbind")], [second]), "/2/fs");
  assert.equal(findChangedDirectory([bind("/1/fs", "ro", "rbind")], [active]), undefined);
  assert.equal(findChangedDirectory([overlay("lowerdir=/1/fs:/2/fs")], [active]), undefined);
  assert.equal(findChangedDirectory([active], [active]), undefined);
  assert.equal(findChangedDirectory([], [active]), undefined);
  assert.equal(findChangedDirectory([bind("/1/fs", "ro")], [bind("/2/fs", "rw")]), undefined);
});

test("an index of hard links spoils that", () => {
  const second = (option: string): Mount => overlay("upperdir=/2/fs", "lowerdir=/1/fs", option);
  assert.equal(findChangedDirectory([bind("/1/fs", "ro")], [second("index=on")]), undefined);
  assert.equal(findChangedDirectory([bind("/1/fs", "ro")], [second("index=off")]), "/2/fs");
});
