import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import test from "node:test";
import { digestOf } from "#containerd/digest.ts";
import { BlobDirectories } from "./blob-directories.ts";
import { IngestDirectories } from "./ingest-files.ts";
import { ContentLayout } from "./layout.ts";

test("a blob that is there already is made durable as one that is moved is, before anybody records it", async (context) => {
  const root = mkdtempSync(`${tmpdir()}/flotilla-blobs-`);
  context.after(() => rmSync(root, { recursive: true }));
  const layout = new ContentLayout(root);
  mkdirSync(`${layout.blobs}/sha256`, { recursive: true });
  mkdirSync(layout.ingests);
  const flushed: string[] = [];
  const blobs = new BlobDirectories(layout, (path) => {
    flushed.push(path);
    return Promise.resolve();
  });
  const ingests = new IngestDirectories(layout, () => 0n);
  const digest = digestOf("bytes");
  for (const [ref, isMoved] of [
    ["first", true],
    ["second", false],
  ] as const) {
    const ingest = await ingests.open(ref, { totalBytes: 0n, algorithm: "sha256" });
    await ingest.append(Buffer.from("bytes"));
    await ingest.seal();
    assert.equal(await blobs.place(ingest, digest), isMoved);
    await ingest.close();
  }
  assert.deepEqual(flushed, [`${layout.blobs}/sha256`, `${layout.blobs}/sha256`]);
});
