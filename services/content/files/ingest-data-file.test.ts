import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import test from "node:test";
import { digestOf } from "#containerd/digest.ts";
import { IngestDirectories } from "./ingest-files.ts";
import { ContentLayout } from "./layout.ts";

test("pieces small and large follow one another in the file and in the digest, also after the ingest was emptied or taken up again", async (context) => {
  const root = mkdtempSync(`${tmpdir()}/flotilla-ingest-`);
  context.after(() => rmSync(root, { recursive: true }));
  const layout = new ContentLayout(root);
  mkdirSync(layout.ingests);
  const ingests = new IngestDirectories(layout, () => 0n);
  const pieces = [1, 64 * 1024, 64 * 1024 + 1, 32 * 1024, 1024 * 1024, 7].map((size, at) => Buffer.alloc(size, at + 1));
  const open = () => ingests.open("ref", { totalBytes: 0n, algorithm: "sha256" });

  const first = await open();
  await first.append(Buffer.from("thrown away"));
  await first.truncate();
  for (const [at, piece] of pieces.entries()) {
    await first.append(piece);
    const whole = Buffer.concat(pieces.slice(0, at + 1));
    assert.ok(readFileSync(layout.ingest("ref").data).equals(whole), "what append has taken is in the file");
    assert.equal(first.digest(), digestOf(whole));
    assert.equal(first.offsetBytes, BigInt(whole.length));
  }
  await first.close();

  const again = await open();
  await again.append(Buffer.from("end"));
  const whole = Buffer.concat([...pieces, Buffer.from("end")]);
  assert.ok(readFileSync(layout.ingest("ref").data).equals(whole));
  assert.equal(again.digest(), digestOf(whole));
  await again.close();
});

test("a small piece that cannot be written fails as a large one does, and the ingest stays as it was", async (context) => {
  const root = mkdtempSync(`${tmpdir()}/flotilla-ingest-`);
  context.after(() => rmSync(root, { recursive: true }));
  const layout = new ContentLayout(root);
  mkdirSync(layout.ingests);
  const ingest = await new IngestDirectories(layout, () => 0n).open("ref", { totalBytes: 0n, algorithm: "sha256" });
  await ingest.append(Buffer.from("bytes"));
  await ingest.close();
  await assert.rejects(ingest.append(Buffer.from("more")), { kind: "unknown", message: /^write ingest: / });
  assert.equal(ingest.offsetBytes, 5n);
  assert.equal(ingest.digest(), digestOf("bytes"));
  assert.equal(readFileSync(layout.ingest("ref").data, "utf8"), "bytes");
});
