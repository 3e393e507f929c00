import assert from "node:assert/strict";
import test from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { failureOf, fromConnectError, toConnectError } from "./errors.ts";

/** What Node.js has loaded of itself. */
const { moduleLoadList } = process as unknown as { readonly moduleLoadList: readonly string[] };

test("a call that fails does not load the whole of fetch", () => {
  const thrown = wrapFailure(failure(ErrorKind.NotFound, "container x"), "get");
  assert.deepEqual(failureOf(thrown), { code: Code.NotFound, message: "get: container x: not found", cause: thrown });
  assert.equal(failureOf(new TypeError("bug")).code, Code.Unknown);
  assert.equal(fromConnectError(new Error("no luck")).kind, ErrorKind.Unknown);
  const hasFetch = (): boolean => moduleLoadList.some((name) => name.endsWith("/undici/undici"));
  assert.equal(hasFetch(), false);
  toConnectError(thrown);
  assert.equal(hasFetch(), true, "this is how it would be seen");
});

test("errors of Connect keep their code and text, and what caused them", () => {
  const cause = new Error("inner");
  const thrown = new ConnectError("too old", Code.Aborted, undefined, undefined, cause);
  assert.deepEqual(failureOf(thrown), { code: Code.Aborted, message: "too old", cause });
  assert.equal(toConnectError(thrown), thrown);
  assert.equal(fromConnectError(thrown).kind, ErrorKind.Aborted);
});

test("what was aborted counts as canceled", () => {
  assert.equal(fromConnectError(AbortSignal.abort().reason).kind, ErrorKind.Canceled);
});
