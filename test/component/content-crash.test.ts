import assert from "node:assert/strict";
import { createHash, randomInt } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { digestOf } from "#containerd/digest.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { WriteCall } from "../conformance/write-call.ts";
import { ContentProcess } from "./content-process.ts";

const rounds = 12;
const writers = 6;
const pieceBytes = 16 * 1024;
const crashMsMax = 400;

/** The bytes that a writer sends for a ref, which a later try has to send again. */
function bytesOf(ref: string): Buffer {
  const pieces = 1 + (Number.parseInt(digestOf(ref).slice(-2), 16) % 8);
  return Buffer.concat(
    Array.from({ length: pieces }, (_, index) => Buffer.alloc(pieceBytes, digestOf(`${ref} ${index}`))),
  );
}

/** Takes an ingest up and brings it to its end. */
async function finishIngest(client: Client<typeof Content>, namespace: string, ref: string): Promise<void> {
  const data = bytesOf(ref);
  const call = new WriteCall(client, { namespace });
  const status = await call.stat({ ref, total: BigInt(data.length) });
  assert.equal(status.digest, digestOf(data.subarray(0, Number(status.offset))), `${ref} has what was written`);
  for (let at = Number(status.offset); at < data.length; at += pieceBytes) {
    await call.write(data.subarray(at, at + pieceBytes), BigInt(at));
  }
  await call.commit({ offset: BigInt(data.length), expected: digestOf(data) });
  await call.finish();
}

/** Sends blobs one after the other until the process dies. @returns The refs whose commit was acknowledged. */
async function writeUntilDeath(client: Client<typeof Content>, namespace: string, name: string): Promise<string[]> {
  const acknowledged: string[] = [];
  try {
    for (let count = 0; ; count += 1) {
      const ref = `${name}-${count}`;
      await finishIngest(client, namespace, ref);
      acknowledged.push(ref);
    }
  } catch (error) {
    assert.ok(!(error instanceof assert.AssertionError), String(error));
    return acknowledged;
  }
}

async function checkFiles(content: ContentProcess): Promise<void> {
  const found = new Set<string>();
  for (const encoded of await readdir(`${content.root}/blobs/sha256`)) {
    const bytes = await readFile(`${content.root}/blobs/sha256/${encoded}`);
    assert.equal(createHash("sha256").update(bytes).digest("hex"), encoded, "a blob is what its name says");
    found.add(`sha256:${encoded}`);
  }
  for (const [digest] of content.index.known()) {
    assert.ok(found.has(digest), `the blob of record ${digest} is there`);
  }
}

test("kill -9 at any moment loses nothing that was acknowledged and leaves nothing that cannot be taken up", async (t) => {
  const content = await ContentProcess.start();
  try {
    for (let round = 0; round < rounds; round += 1) {
      const namespace = `crash-${round}`;
      const client = createClient(Content, content.transport);
      const work = Array.from({ length: writers }, (_, index) =>
        writeUntilDeath(client, namespace, `${namespace}-${index}`),
      );
      const crashMs = randomInt(crashMsMax);
      await delay(crashMs);
      await content.kill();
      await content.restart();
      const acknowledged = (await Promise.all(work)).flat();
      t.diagnostic(`round ${round}: killed after ${crashMs} ms, ${acknowledged.length} commits acknowledged`);

      await checkFiles(content);
      const blobs = content.index.blobs.get(namespace);
      for (const ref of acknowledged) {
        assert.ok(blobs?.has(digestOf(bytesOf(ref))), `${ref} has its record`);
      }
      const next = createClient(Content, content.transport);
      for (const ref of content.index.ingests.get(namespace)?.keys() ?? []) {
        await finishIngest(next, namespace, ref);
      }
      const { statuses } = await next.listStatuses({}, { headers: clientHeaders(namespace) });
      assert.deepEqual(statuses, []);
      await checkFiles(content);
    }
    const found = (await readdir(`${content.root}/blobs/sha256`)).map((encoded) => `sha256:${encoded}`);
    const orphans = found.filter((digest) => !content.index.known().has(digest));
    const { removedDigests } = await createClient(Blobs, content.transport).removeBlobs({ digests: orphans });
    assert.deepEqual(removedDigests.toSorted(), orphans.toSorted());
    assert.deepEqual(await readdir(`${content.root}/ingest`), []);
  } finally {
    await content.close();
  }
});
