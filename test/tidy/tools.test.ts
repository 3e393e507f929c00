import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { execa } from "execa";

async function passes(command: string, ...args: string[]): Promise<void> {
  const { exitCode, all } = await execa(command, args, { all: true, reject: false, preferLocal: true });
  assert.equal(exitCode, 0, all);
}

for (const folder of ["shared", "services", "deploy", "test"]) {
  test(`types of ${folder}`, () => passes("tsc", "-p", folder));
}

test("lint", () => passes("oxlint", "--type-aware", "--deny-warnings", "shared", "services", "deploy", "test"));

test("format", () => passes("biome", "ci", "."));

test("proto lint", () => passes("buf", "lint", "proto"));

test("generated code is what proto/ makes", async () => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-gen-"));
  try {
    await passes("buf", "generate", "proto", "--output", directory);
    await passes("diff", "-r", join(directory, "shared/gen"), "shared/gen");
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("shell scripts parse", async () => {
  const packaging = ["debian/build.sh", "debian/postinst", "debian/prerm", "debian/postrm", "compose/build-image.sh"];
  for (const script of ["bootstrap.sh", "environment.sh", "flotilla", "flotilla-member", ...packaging]) {
    await passes("sh", "-n", `deploy/${script}`);
  }
});
