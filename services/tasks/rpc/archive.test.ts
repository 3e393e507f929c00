import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import test from "node:test";
import { packDirectory, unpackArchive } from "./archive.ts";

test("a directory comes out of an archive as it went in", async (t) => {
  const directory = await mkdtemp(`${tmpdir()}/flotilla-archive-`);
  t.after(() => rm(directory, { recursive: true }));
  await mkdir(`${directory}/from/deep`, { recursive: true });
  await mkdir(`${directory}/to`);
  await writeFile(`${directory}/from/deep/file`, "x".repeat(300_000));
  const chunks: Uint8Array[] = [];
  for await (const chunk of packDirectory(`${directory}/from`)) {
    chunks.push(chunk);
  }
  await writeFile(`${directory}/archive.tar`, Buffer.concat(chunks));
  await unpackArchive(`${directory}/archive.tar`, `${directory}/to`);
  assert.equal((await readFile(`${directory}/to/deep/file`, "utf8")).length, 300_000);
});

test("what can't be packed or unpacked fails with the program's words", async (t) => {
  const directory = await mkdtemp(`${tmpdir()}/flotilla-archive-`);
  t.after(() => rm(directory, { recursive: true }));
  await writeFile(`${directory}/no-archive`, "nothing of the kind");
  await assert.rejects(unpackArchive(`${directory}/no-archive`, directory), {
    message: /^unpack .*no-archive: tar: This does not look like a tar archive/,
  });
  await assert.rejects(packDirectory(`${directory}/nothing`).next(), {
    message: /^pack .*: exit status 2: tar: .*: Cannot open: No such file or directory/,
  });
});
