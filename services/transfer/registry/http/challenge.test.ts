import assert from "node:assert/strict";
import test from "node:test";
import { parseChallenges } from "./challenge.ts";

function plain(...values: string[]): unknown[] {
  return parseChallenges(values).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

test("challenges, bearer first", () => {
  assert.deepEqual(
    plain(
      'Basic realm="r"',
      'Bearer realm="https://a.example/token?x=1,2",service="s", SCOPE="repository:a/b:pull,push"',
    ),
    [
      ["bearer", { realm: "https://a.example/token?x=1,2", service: "s", scope: "repository:a/b:pull,push" }],
      ["basic", { realm: "r" }],
    ],
  );
});

test("challenges that mean nothing to us, or break off", () => {
  assert.deepEqual(plain("Negotiate", 'Digest realm="x"', ""), []);
  assert.deepEqual(plain("bearer"), [["bearer", {}]]);
  assert.deepEqual(plain('Bearer realm="a\\"b\\\\c",broken="'), [["bearer", { realm: 'a"b\\c', broken: "" }]]);
  assert.deepEqual(plain("Bearer realm=plain , error=insufficient_scope"), [
    ["bearer", { realm: "plain", error: "insufficient_scope" }],
  ]);
});
