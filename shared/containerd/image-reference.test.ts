import assert from "node:assert/strict";
import test from "node:test";
import { familiarImageName, layoutNameOf, normalizeImageName } from "./image-reference.ts";

const digest = `sha256:${"a".repeat(64)}`;

/** @source distribution/reference v0.6 normalize_test.go */
test("names are completed as Docker does, and shortened again", () => {
  for (const [short, full, familiar] of [
    ["alpine", "docker.io/library/alpine:latest", "alpine:latest"],
    ["alpine:3", "docker.io/library/alpine:3", "alpine:3"],
    ["me/app", "docker.io/me/app:latest", "me/app:latest"],
    ["index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"],
    ["localhost/a", "localhost/a:latest", "localhost/a:latest"],
    ["localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"],
    ["[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"],
    ["UPPER/a", "UPPER/a:latest", "UPPER/a:latest"],
    [`ghcr.io/a/b:c@${digest}`, `ghcr.io/a/b@${digest}`, `ghcr.io/a/b@${digest}`],
    ["docker.io/library/x/y", "docker.io/library/x/y:latest", "library/x/y:latest"],
  ] as const) {
    assert.equal(normalizeImageName(short), full);
    assert.equal(familiarImageName(full), familiar);
  }
  const tooLong = `${"a".repeat(128)}/${"b".repeat(128)}`;
  for (const wrong of [
    "",
    "a".repeat(64),
    "A",
    "a//b",
    "a:",
    "a@sha256:1",
    "a b",
    "../a",
    "a/..",
    "-a",
    tooLong,
    "a".repeat(9999),
  ]) {
    assert.throws(() => normalizeImageName(wrong), { message: /^invalid reference format/ }, wrong);
  }
});

test("an OCI layout names an image by its tag, or else in full", () => {
  assert.equal(layoutNameOf("docker.io/library/alpine:3"), "3");
  assert.equal(layoutNameOf(`docker.io/library/alpine:3@${digest}`), `3@${digest}`);
  for (const whole of [`docker.io/library/alpine@${digest}`, "localhost:5000/a", "a:b", "", "http://a/b:c", "a/b:"]) {
    assert.equal(layoutNameOf(whole), whole);
  }
});
