import assert from "node:assert/strict";
import test from "node:test";
import type { StreamProcessorConfig } from "#config/config.ts";
import { planProcessors } from "./media-type.ts";

function program(accepts: string, returns: string): StreamProcessorConfig {
  return { accepts: [accepts], returns, path: "program", args: [], env: [] };
}

const oci = "application/vnd.oci.image.layer.v1.tar";
const docker = "application/vnd.docker.image.rootfs.diff.tar";

test("compressed layers, and those that may be, are decompressed", () => {
  const plan = (mediaType: string): unknown => planProcessors(mediaType, new Map());
  for (const mediaType of [
    `${oci}+gzip`,
    `${oci}+zstd`,
    docker,
    `${docker}.gzip`,
    `${docker}.zstd`,
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
  ]) {
    assert.deepEqual(plan(mediaType), [{ kind: "decompress" }], mediaType);
  }
  for (const mediaType of [
    oci,
    `${oci}+other`,
    `${docker}+wrapped`,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
  ]) {
    assert.deepEqual(plan(mediaType), [], mediaType);
  }
});

test("what is no layer is refused in containerd's words", () => {
  for (const mediaType of ["", "application/json", "application/vnd.erofs.layer.v1", `${docker}.xz`]) {
    assert.throws(() => planProcessors(mediaType, new Map()), {
      message: `failed to get stream processor for ${mediaType}: no processor for media-type`,
      kind: "unknown",
    });
  }
});

test("programs come before what is built in, later ones before earlier", () => {
  const encrypted = `${oci}+gzip+encrypted`;
  const [first, second] = [program(encrypted, oci), program(encrypted, `${oci}+gzip`)];
  const programs = new Map([
    ["first", first],
    ["second", second],
  ]);
  assert.deepEqual(planProcessors(encrypted, programs), [
    { kind: "program", id: "second", config: second, input: encrypted },
    { kind: "decompress" },
  ]);
  assert.deepEqual(planProcessors(encrypted, new Map([["first", first]])), [
    { kind: "program", id: "first", config: first, input: encrypted },
  ]);
  const override = program(`${oci}+gzip`, oci);
  assert.deepEqual(planProcessors(`${oci}+gzip`, new Map([["own", override]])), [
    { kind: "program", id: "own", config: override, input: `${oci}+gzip` },
  ]);
});

test("programs that go in circles are refused", () => {
  const programs = new Map([
    ["there", program("a", "b")],
    ["back", program("b", "a")],
  ]);
  assert.throws(() => planProcessors("a", programs), {
    message: "failed to get stream processor for a: too many processors",
  });
});
