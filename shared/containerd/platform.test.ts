import assert from "node:assert/strict";
import test from "node:test";
import {
  formatPlatform,
  normalizePlatform,
  onlyOperatingSystem,
  onlyPlatform,
  orderedPlatforms,
  parsePlatform,
  platformFrom,
} from "./platform.ts";

const platform = (specifier: string) => parsePlatform(specifier);

test("platforms are read as configuration names them", () => {
  assert.deepEqual(platform("linux/amd64"), platformFrom({ os: "linux", architecture: "amd64" }));
  assert.deepEqual(platform("Linux/x86_64/v1"), platform("linux/amd64"));
  assert.deepEqual(platform("linux/arm64/v8"), platform("linux/aarch64"));
  assert.equal(platform("linux/arm").variant, "v7");
  assert.equal(platform("linux/armel").variant, "v6");
  assert.deepEqual(platform("linux(+erofs)/amd64").osFeatures, ["erofs"]);
  assert.equal(formatPlatform(platform("windows(10.0.1+b+a)/amd64")), "windows(10.0.1+a+b)/amd64");
  for (const wrong of ["", "linux", "linux/", "a/b/c/d", "linux/am*d", "li nux/amd64"]) {
    assert.throws(() => platform(wrong), { message: /invalid argument$/ }, wrong);
  }
});

test("what JSON says of a platform is taken as far as it is text", () => {
  assert.deepEqual(
    platformFrom({ os: 5, architecture: "arm", osFeatures: ["a", 1], variant: null }),
    platformFrom({ architecture: "arm", osFeatures: ["a"] }),
  );
  assert.equal(normalizePlatform(platformFrom({})).os, process.platform);
});

/** @source containerd/platforms v1 compare_test.go */
test("a platform matches what runs on it", () => {
  const amd64 = onlyPlatform(platform("linux/amd64"));
  assert.equal(amd64.matches(platform("linux/386")), true);
  assert.equal(amd64.matches(platform("linux/arm64")), false);
  assert.equal(amd64.matches(platform("linux/amd64/v2")), false);
  assert.equal(onlyPlatform(platform("linux/amd64/v3")).matches(platform("linux/amd64/v2")), true);
  const arm64 = onlyPlatform(platform("linux/arm64"));
  assert.deepEqual(
    ["linux/arm64", "linux/arm/v7", "linux/arm/v5", "linux/arm64/v9"].map((name) => arm64.matches(platform(name))),
    [true, true, true, false],
  );
  const arm64v9 = onlyPlatform(platform("linux/arm64/v9.1"));
  assert.deepEqual(
    ["linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64/v8.7", "linux/arm64"].map((name) =>
      arm64v9.matches(platform(name)),
    ),
    [true, true, false, true],
  );
  assert.equal(onlyPlatform(platform("linux/arm/v7")).isLess(platform("linux/arm/v7"), platform("linux/arm/v6")), true);
  assert.equal(onlyOperatingSystem(platform("linux/amd64")).matches(platform("linux/s390x")), true);
  assert.equal(onlyOperatingSystem(platform("linux/amd64")).matches(platform("windows/amd64")), false);
});

test("of the wanted platforms the first comes first, and the one with more features", () => {
  const order = orderedPlatforms([platform("linux(+erofs)/amd64"), platform("linux/arm64")]);
  const names = ["linux/s390x", "linux/arm64", "linux/amd64", "linux(+erofs)/amd64"];
  const sorted = names
    .map(platform)
    .toSorted((left, right) => (order.isLess(left, right) ? -1 : order.isLess(right, left) ? 1 : 0));
  assert.deepEqual(sorted.map(formatPlatform), ["linux(+erofs)/amd64", "linux/amd64", "linux/arm64", "linux/s390x"]);
  assert.equal(order.matches(platform("linux(+other)/amd64")), false);
});
