import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { parseReference } from "./reference.ts";

test("names are taken apart as containerd does", () => {
  const digest = `sha256:${"a".repeat(64)}`;
  const cases: Record<string, readonly [string, string, string, string]> = {
    "docker.io/library/alpine:3.20": ["docker.io", "library/alpine", "3.20", ""],
    "localhost:5000/alpine": ["localhost:5000", "alpine", "", ""],
    [`[::1]:5000/a/b@${digest}`]: ["[::1]:5000", "a/b", "", digest],
    [`ghcr.io/a/b:v1@${digest}`]: ["ghcr.io", "a/b", "v1", digest],
    "quay.io/a__b/c-d.e:_x": ["quay.io", "a__b/c-d.e", "_x", ""],
  };
  for (const [text, [host, repository, tag, digest]] of Object.entries(cases)) {
    assert.deepEqual(parseReference(text), { host, repository, tag, digest }, text);
  }
});

test("names that would lead elsewhere are refused", () => {
  for (const [text, message] of Object.entries({
    "https://docker.io/library/alpine": "invalid reference",
    "/library/alpine": "hostname required",
    "": "hostname required",
    alpine: 'invalid reference "alpine"',
    "docker.io/../../etc:x": 'invalid reference "docker.io/../../etc:x"',
    "../certs/alpine:x": 'invalid reference "../certs/alpine:x"',
    "user:secret@docker.io/alpine": 'invalid reference "user:secret@docker.io/alpine"',
    "docker.io/a%2fb:x": 'invalid reference "docker.io/a%2fb:x"',
    "docker.io/a//b:x": 'invalid reference "docker.io/a//b:x"',
    "docker.io/a b:x": 'invalid reference "docker.io/a b:x"',
    "docker.io/alpine:a/b": 'invalid reference "docker.io/alpine:a/b"',
    "docker.io/alpine?ns=x:latest": 'invalid reference "docker.io/alpine?ns=x:latest"',
  })) {
    assert.throws(
      () => parseReference(text),
      (error) => isFailure(error, ErrorKind.InvalidArgument) && error.message === message,
      text,
    );
  }
});
