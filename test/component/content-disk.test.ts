import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { mountOne } from "#linux/mount.ts";
import { bindService, type Handlers } from "#wire/handler.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type RpcServer, serveRpc } from "#wire/server.ts";
import { WriteCall } from "../conformance/write-call.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { ContentProcess } from "./content-process.ts";

const namespace = "disk";
const diskBytes = 4 * 1024 * 1024;
const pieceBytes = 256 * 1024;

/** Starts the process on a disk of 4 MiB. */
function startOnSmallDisk(config = ""): Promise<ContentProcess> {
  return ContentProcess.start(async (root) => {
    await mkdir(root, { recursive: true });
    await mountOne({ type: "tmpfs", source: "tmpfs", options: [`size=${diskBytes}`] }, root);
  }, config);
}

/** A content store of somebody else, which is only read. */
function serveBlobs(socketPath: string, blobs: readonly Buffer[]): Promise<RpcServer> {
  const find = (digest: string): Buffer =>
    blobs.find((blob) => digestOf(blob) === digest) ?? assert.fail(`${digest} is not there`);
  const handlers: Partial<Handlers<typeof Content>> = {
    info: ({ digest }) => ({ info: { digest, size: BigInt(find(digest).length) } }),
    async *read({ digest }) {
      const blob = find(digest);
      for (let offset = 0; offset < blob.length; offset += pieceBytes) {
        yield { offset: BigInt(offset), data: blob.subarray(offset, offset + pieceBytes) };
      }
    },
  };
  return serveRpc({ socketPath, services: [bindService(Content, handlers)] });
}

async function readBlob(content: ContentProcess, digest: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const client = createClient(Content, content.transport);
  for await (const { data } of client.read({ digest }, { headers: clientHeaders(namespace) })) {
    chunks.push(data);
  }
  return Buffer.concat(chunks);
}

test("a full disk is told as such, shows nothing, and the ingest goes on when there is room again", async () => {
  const content = await startOnSmallDisk();
  try {
    const client = createClient(Content, content.transport);
    const ballast = `${content.root}/ballast`;
    await writeFile(ballast, Buffer.alloc(2 * 1024 * 1024));
    const data = randomBytes(3 * 1024 * 1024);
    const writeAll = async (): Promise<void> => {
      const call = new WriteCall(client, { namespace });
      const facts = { ref: "large", total: BigInt(data.length), expected: digestOf(data) };
      const { offset, digest } = await call.stat(facts);
      assert.equal(digest, digestOf(data.subarray(0, Number(offset))));
      for (let at = Number(offset); at < data.length; at += pieceBytes) {
        await call.write(data.subarray(at, at + pieceBytes), BigInt(at));
      }
      await call.commit({ offset: facts.total, total: facts.total, expected: facts.expected });
      await call.finish();
    };
    await assert.rejects(writeAll(), (error) => {
      assert.ok(isFailure(error, ErrorKind.ResourceExhausted), String(error));
      assert.equal(error.message, "write ingest: no space left on device: resource exhausted");
      return true;
    });
    await assert.rejects(writeAll(), { kind: ErrorKind.ResourceExhausted });
    assert.deepEqual(await readdir(`${content.root}/blobs/sha256`), []);
    const { status } = await client.status({ ref: "large" }, { headers: clientHeaders(namespace) });
    assert.ok((status?.offset ?? 0n) > 0n && (status?.offset ?? 0n) < BigInt(data.length));

    await rm(ballast);
    await writeAll();
    assert.deepEqual(await readdir(`${content.root}/blobs/sha256`), [digestOf(data).slice("sha256:".length)]);
    assert.deepEqual(await readdir(`${content.root}/ingest`), []);
  } finally {
    await content.close();
  }
});

test("a disk without room for one more file refuses new ingests and keeps reading", async () => {
  const content = await startOnSmallDisk();
  try {
    const client = createClient(Content, content.transport);
    const call = new WriteCall(client, { namespace });
    await call.stat({ ref: "small" });
    await call.commit({ data: Buffer.from("small") });
    await call.finish();
    await writeFile(`${content.root}/ballast`, Buffer.alloc(diskBytes)).catch(() => undefined);
    await assert.rejects(new WriteCall(client, { namespace }).stat({ ref: "next" }), {
      kind: ErrorKind.ResourceExhausted,
      message: "start ingest: no space left on device: resource exhausted",
    });
    assert.equal((await readBlob(content, digestOf("small"))).toString(), "small");
    await rm(`${content.root}/ballast`);
    const again = new WriteCall(client, { namespace });
    assert.equal((await again.stat({ ref: "next" })).offset, 0n);
    await again.finish();
  } finally {
    await content.close();
  }
});

test("a copy of a proxy's blob for which there is no room is told of and leaves nothing; copies that nobody uses make room", async () => {
  await using directory = await makeTemporaryDirectory("far");
  const [first, second] = [randomBytes(2.5 * 1024 * 1024), randomBytes(3 * 1024 * 1024)];
  const server = await serveBlobs(`${directory.path}/far.sock`, [first, second]);
  const content = await startOnSmallDisk(`disabled_plugins = ["io.containerd.content.v1.content"]
[proxy_plugins.far]
  type = "content"
  address = "${directory.path}/far.sock"`);
  try {
    for (const blob of [first, second]) {
      content.index.addBlob(namespace, digestOf(blob), BigInt(blob.length));
    }
    const copies = `${content.root}/proxied/far`;
    const names = (...blobs: readonly Buffer[]): string[] =>
      blobs.map((blob) => digestOf(blob).slice("sha256:".length));
    assert.ok((await readBlob(content, digestOf(first))).equals(first));
    await assert.rejects(readBlob(content, digestOf(second)), {
      kind: ErrorKind.ResourceExhausted,
      message: `bring blob ${digestOf(second)}: no space left on device: resource exhausted`,
    });
    assert.deepEqual(await readdir(`${copies}/ingest`), []);
    assert.deepEqual(await readdir(`${copies}/blobs/sha256`), names(first));
    assert.ok((await readBlob(content, digestOf(first))).equals(first), "who reads what is there notices nothing");
    // Whoever was told where the copy lies has gone with the process.
    await content.kill();
    await content.restart();
    assert.ok((await readBlob(content, digestOf(second))).equals(second));
    assert.deepEqual(await readdir(`${copies}/blobs/sha256`), names(second));
  } finally {
    await content.close();
    await server.close(0);
  }
});
