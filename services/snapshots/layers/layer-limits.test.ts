import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { asByteString } from "#linux/bytes.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";
import { checkRatio, LimitedSink, smallBytes } from "./layer-limits.ts";

const unlimited = { entriesMax: 0, depthMax: 0, ratioMax: 0 };
const isExhausted = (error: unknown): boolean => isFailure(error, ErrorKind.ResourceExhausted);

function member(name: string): TarMember {
  return {
    name: asByteString(name),
    type: MemberType.Directory,
    linkName: asByteString(""),
    mode: 0o755,
    user: 0,
    group: 0,
    sizeBytes: 0,
    modified: { seconds: 0, nanoseconds: 0 },
    accessed: undefined,
    deviceMajor: 0,
    deviceMinor: 0,
    attributes: new Map(),
  };
}

function open(limits: object): { readonly sink: LimitedSink; readonly seen: string[] } {
  const seen: string[] = [];
  const nothing = (): void => undefined;
  const sink = {
    begin: ({ name }: TarMember) => void seen.push(name),
    content: nothing,
    hole: nothing,
    finish: nothing,
  };
  return { sink: new LimitedSink(sink, { ...unlimited, ...limits }), seen };
}

test("entries beyond the limit end the layer", () => {
  const { sink, seen } = open({ entriesMax: 2 });
  sink.begin(member("a"));
  sink.begin(member("b"));
  assert.throws(() => sink.begin(member("c")), isExhausted);
  assert.deepEqual(seen, ["a", "b"]);
  assert.doesNotThrow(() => Array.from({ length: 100 }, () => open({}).sink.begin(member("a"))));
});

test("directories inside each other beyond the limit end the layer", () => {
  const { sink } = open({ depthMax: 2 });
  for (const name of ["a", "a/b/c", "/a/b/", "a//b///c/", "./a/b"]) {
    assert.doesNotThrow(() => sink.begin(member(name)), name);
  }
  assert.throws(() => sink.begin(member("a/b/c/d")), /depth_max/);
});

test("a layer that is large, and much larger than its blob, is refused", () => {
  const limits = { ...unlimited, ratioMax: 100 };
  assert.doesNotThrow(() => checkRatio(limits, smallBytes, 1));
  assert.doesNotThrow(() => checkRatio(limits, smallBytes * 2, smallBytes / 50));
  assert.throws(() => checkRatio(limits, smallBytes * 2, smallBytes / 51), isExhausted);
  assert.doesNotThrow(() => checkRatio(unlimited, smallBytes * 1000, 1));
});
