import assert from "node:assert/strict";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { StreamFiles } from "./stream-files.ts";

test("files may grow, come and go between flushes, but their directory has to be there", async () => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-stream-"));
  try {
    using files = new StreamFiles(directory);
    await files.flush();
    await writeFile(`${directory}/1.blk`, "one");
    await writeFile(`${directory}/1.idx`, "index");
    await files.flush();
    await writeFile(`${directory}/10.blk`, "ten");
    await writeFile(`${directory}/2.blk`, "two");
    await files.flush();
    // The newest grows, is followed, made anew under its name, and removed.
    await writeFile(`${directory}/10.blk`, "ten and more");
    await files.flush();
    await writeFile(`${directory}/11.blk`, "eleven");
    await files.flush();
    await writeFile(`${directory}/new`, "another");
    await rename(`${directory}/new`, `${directory}/11.blk`);
    await files.flush();
    await rm(`${directory}/11.blk`);
    await files.flush();
    await rm(directory, { recursive: true });
    await assert.rejects(files.flush(), { code: "ENOENT" });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
