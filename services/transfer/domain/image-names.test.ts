import assert from "node:assert/strict";
import test from "node:test";
import { parseDigest } from "#containerd/digest.ts";
import { imageNameAnnotation, type NameRule, namesFor, namesFromArchive } from "./image-names.ts";
import { refNameAnnotation } from "./ref-key.ts";

const digest = parseDigest(`sha256:${"b".repeat(64)}`);
const now = new Date("2026-01-02T03:04:05.678Z");
const image = { mediaType: "", digest, size: 1 };

const rule = (name: string, flags: Partial<NameRule> = {}): NameRule => ({
  name,
  isPrefix: false,
  allowOverwrite: false,
  addDigest: false,
  skipNamedDigest: false,
  ...flags,
});
const naming = (name: string, ...rules: NameRule[]) => ({ name, labels: { a: "b" }, rules });
const plain = (...rules: NameRule[]): string[] => namesFor(image, naming("n", ...rules), now).map(({ name }) => name);
const fromArchive = (annotations: Record<string, string>, ...rules: NameRule[]): string[] =>
  namesFromArchive({ ...image, annotations }, naming("", ...rules), now).map(({ name }) => name);

/** @source containerd v2.3.4 core/transfer/image/imagestore_test.go `TestStore` */
test("an image without a name gets the one asked for and the whole ones", () => {
  assert.deepEqual(plain(), ["n"]);
  assert.deepEqual(plain(rule("x:1"), rule("p", { isPrefix: true })), ["n", "x:1"]);
  assert.deepEqual(plain(rule("p", { isPrefix: true, addDigest: true, skipNamedDigest: true })), ["n", `p@${digest}`]);
  assert.throws(() => namesFor(image, naming("", rule("p", { isPrefix: true })), now), {
    message: "no image name found: not found",
  });
});

test("further names are kept by the first one alone", () => {
  const [first, second] = namesFor(image, naming("n", rule("x")), now);
  assert.deepEqual(first?.labels, { a: "b" });
  assert.deepEqual(second?.labels, {
    a: "b",
    "containerd.io/gc.bref.image": "n",
    "containerd.io/gc.expire": "2026-01-02T03:04:05Z",
  });
  assert.deepEqual(namesFor(image, naming("", rule("x")), now)[0]?.labels, { a: "b" });
});

test("an archive's tag is put behind the prefix, and its full name must have the prefix or be let", () => {
  const prefix = rule("docker.io/library/a", { isPrefix: true });
  assert.deepEqual(fromArchive({ [refNameAnnotation]: "1" }, prefix), ["docker.io/library/a:1"]);
  assert.deepEqual(fromArchive({ [imageNameAnnotation]: "docker.io/library/a:2", [refNameAnnotation]: "1" }, prefix), [
    "docker.io/library/a:2",
  ]);
  for (const name of ["docker.io/library/ab:1", "other/a:1", "tagalone"]) {
    assert.throws(() => fromArchive({ [imageNameAnnotation]: name }, prefix), { message: /not found$/ }, name);
  }
  const open = { ...prefix, allowOverwrite: true };
  assert.deepEqual(fromArchive({ [imageNameAnnotation]: "other/a:1" }, open), ["other/a:1"]);
  assert.throws(() => fromArchive({ [refNameAnnotation]: "1" }, rule("whole:1")), { message: /not found$/ });
  assert.throws(() => fromArchive({ [refNameAnnotation]: "1" }, { ...prefix, name: "" }), { message: /not found$/ });
});

test("names by digest are added to all, or to what has no other", () => {
  const digests = rule("p", { isPrefix: true, addDigest: true });
  assert.deepEqual(fromArchive({ [refNameAnnotation]: "1" }, digests), ["p:1", `p@${digest}`]);
  assert.deepEqual(fromArchive({ [refNameAnnotation]: "1" }, { ...digests, skipNamedDigest: true }), ["p:1"]);
  assert.deepEqual(fromArchive({}, { ...digests, skipNamedDigest: true }), [`p@${digest}`]);
});
