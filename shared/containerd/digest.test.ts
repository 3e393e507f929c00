import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { digestOf, digestOfHash, findDigestFault, isDigest, parseDigest, splitDigest } from "./digest.ts";

const emptyDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

test("digests are checked with go-digest's words", () => {
  const faults: Record<string, string | undefined> = {
    [emptyDigest]: undefined,
    [`sha512:${"a".repeat(128)}`]: undefined,
    [`sha384:${"0".repeat(96)}`]: undefined,
    "": "invalid checksum digest format",
    sha256: "invalid checksum digest format",
    "sha256:": "invalid checksum digest format",
    ":abc": "invalid checksum digest format",
    "sha256:abc": "invalid checksum digest length",
    [`sha256:${"A".repeat(64)}`]: "invalid checksum digest format",
    [`sha256:${"g".repeat(64)}`]: "invalid checksum digest format",
    [`sha256:${"a".repeat(63)}\n`]: "invalid checksum digest format",
    "md5:abc": "unsupported digest algorithm",
    "b-ü:abc": "invalid checksum digest format",
    "constructor:abc": "unsupported digest algorithm",
  };
  for (const [text, fault] of Object.entries(faults)) {
    assert.equal(findDigestFault(text), fault, text);
    assert.equal(isDigest(text), fault === undefined);
  }
});

test("a parsed digest splits into the path on disk", () => {
  assert.deepEqual(splitDigest(parseDigest(emptyDigest)), { algorithm: "sha256", encoded: emptyDigest.slice(7) });
  assert.throws(
    () => parseDigest("sha256:abc"),
    (error) => isFailure(error, ErrorKind.InvalidArgument) && error.message === "invalid checksum digest length",
  );
});

test("a hash goes on after its digest was asked", () => {
  const hash = createHash("sha256");
  assert.equal(digestOfHash(hash), emptyDigest);
  assert.equal(digestOfHash(hash.update("ab")), digestOf("ab"));
  assert.equal(digestOf("ab", "sha512").length, "sha512:".length + 128);
});
