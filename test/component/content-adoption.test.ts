import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { cp, readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { digestOf } from "#containerd/digest.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { WriteCall } from "../conformance/write-call.ts";
import { startContainerd } from "../kit/daemon.ts";
import { ContentProcess } from "./content-process.ts";

const plugin = "io.containerd.content.v1.content";

test("blobs and ingests that containerd left are read and taken up", async () => {
  await using containerd = await startContainerd();
  const namespace = "adopted";
  const theirs = createClient(Content, containerd.transport);
  const [whole, half] = [randomBytes(3000), randomBytes(2000)];
  const done = new WriteCall(theirs, { namespace });
  await done.stat({ ref: "whole" });
  await done.commit({ data: whole });
  await done.finish();
  const broken = new WriteCall(theirs, { namespace });
  const before = await broken.stat({ ref: "half", total: 2000n });
  await broken.write(half.subarray(0, 1200), 0n);
  await broken.finish();
  await containerd.stop();

  const content = await ContentProcess.start(async (root, index) => {
    await cp(`${containerd.root}/${plugin}`, root, { recursive: true });
    index.addBlob(namespace, digestOf(whole), 3000n);
    const [directory = ""] = await readdir(`${root}/ingest`);
    index.addIngest(namespace, "half", await readFile(`${root}/ingest/${directory}/ref`, "utf8"));
  });
  try {
    const ours = createClient(Content, content.transport);
    const chunks: Uint8Array[] = [];
    for await (const { data } of ours.read({ digest: digestOf(whole) }, { headers: clientHeaders(namespace) })) {
      chunks.push(data);
    }
    assert.ok(Buffer.concat(chunks).equals(whole));
    const call = new WriteCall(ours, { namespace });
    const status = await call.stat({ ref: "half", total: 2000n });
    assert.equal(status.offset, 1200n);
    assert.equal(status.digest, digestOf(half.subarray(0, 1200)));
    assert.deepEqual(status.startedAt, before.startedAt);
    await call.commit({ offset: 1200n, data: half.subarray(1200), expected: digestOf(half), total: 2000n });
    await call.finish();
  } finally {
    await content.close();
  }
});
