import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import test from "node:test";
import { ErrorKind } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { readSmallPart } from "../domain/read-range.ts";
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

test("a small part of a blob is read at once, and a file that is short or gone is told of", (context) => {
  const root = mkdtempSync(`${tmpdir()}/flotilla-blobs-`);
  context.after(() => rmSync(root, { recursive: true }));
  const layout = new ContentLayout(root);
  mkdirSync(`${layout.blobs}/sha256`, { recursive: true });
  const blobs = new BlobDirectories(layout);
  const digest = digestOf("bytes");
  const part = (startBytes: bigint, lengthBytes: bigint) => readSmallPart(blobs, digest, { startBytes, lengthBytes });
  assert.throws(() => part(0n, 5n), {
    kind: ErrorKind.NotFound,
    message: /^blob sha256:\S+ expected at \S+: blob not found/,
  });
  writeFileSync(layout.blob(digest), "bytes");
  assert.equal(Buffer.from(part(1n, 3n)?.data ?? []).toString(), "yte");
  assert.equal(part(5n, 0n), undefined);
  assert.equal(part(0n, 1_000_000n), undefined);
  assert.throws(() => part(2n, 4n), { kind: ErrorKind.DataLoss, message: /^blob ends at 5 bytes, before 6/ });
});
