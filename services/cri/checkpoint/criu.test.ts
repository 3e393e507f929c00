import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { findCriu } from "./criu.ts";

async function makeCriu(t: TestContext, output: string, mode = 0o755): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-criu-"));
  t.after(() => rm(directory, { recursive: true }));
  const program = join(directory, "criu");
  await writeFile(program, `#!/bin/sh\necho '${output}'\n`);
  await chmod(program, mode);
  return directory;
}

test("CRIU is found where it is new enough", async (t) => {
  const old = await makeCriu(t, "Version: 3.15");
  const fresh = await makeCriu(t, "Version: 3.17.1");
  const other = await makeCriu(t, "Version: 9.0", 0o644);
  assert.equal(await findCriu({ isEnabled: true, path: `relative:${other}:${fresh}:${old}` }), join(fresh, "criu"));
  await assert.rejects(findCriu({ isEnabled: true, path: old }), {
    message: "checkpoint/restore requires at least CRIU 31600, current version is 31500",
  });
});

test("it is said why there is none", async (t) => {
  const silent = await makeCriu(t, "hello");
  await assert.rejects(findCriu({ isEnabled: false, path: silent }), {
    message: "criu support is disabled by configuration",
  });
  await assert.rejects(findCriu({ isEnabled: true, path: "/nowhere" }), {
    message: "criu binary not found in shim path or system PATH",
  });
  await assert.rejects(
    findCriu({ isEnabled: true, path: silent }),
    /^FlotillaError: failed to retrieve criu version: /,
  );
});
