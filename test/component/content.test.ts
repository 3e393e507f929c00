import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, readlink, rm, stat, truncate, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import { type Digest, digestOf } from "#containerd/digest.ts";
import { Content, WriteAction } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { WriteCall } from "../conformance/write-call.ts";
import { ContentProcess } from "./content-process.ts";

let content: ContentProcess;
let client: Client<typeof Content>;
let blobs: Client<typeof Blobs>;

function connect(): void {
  client = createClient(Content, content.transport);
  blobs = createClient(Blobs, content.transport);
}

before(async () => {
  content = await ContentProcess.start();
  connect();
});

after(() => content.close());

let namespaces = 0;

function newNamespace(): string {
  namespaces += 1;
  return `content-${namespaces}`;
}

async function put(namespace: string, data: Uint8Array): Promise<Digest> {
  const call = new WriteCall(client, { namespace });
  await call.stat({ ref: `put-${digestOf(data)}` });
  await call.commit({ data });
  await call.finish();
  return digestOf(data);
}

async function readAll(namespace: string, digest: string): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const { data } of client.read({ digest }, { headers: clientHeaders(namespace) })) {
    parts.push(data);
  }
  return Buffer.concat(parts);
}

const fileOf = (digest: string): string => `${content.root}/blobs/${digest.replace(":", "/")}`;

async function callsDuring(work: () => Promise<unknown>): Promise<Record<string, number>> {
  content.index.calls.clear();
  await work();
  return Object.fromEntries(content.index.calls);
}

test("a session asks the index once to open and once to commit, whatever its length", async () => {
  const namespace = newNamespace();
  const data = randomBytes(64 * 1024);
  const calls = await callsDuring(async () => {
    const call = new WriteCall(client, { namespace });
    await call.stat({ ref: "long", total: BigInt(data.length), expected: digestOf(data) });
    for (let offset = 0; offset < data.length; offset += 4096) {
      await call.write(data.subarray(offset, offset + 4096), BigInt(offset));
    }
    await call.commit({ offset: BigInt(data.length), expected: digestOf(data) });
    await call.finish();
  });
  assert.deepEqual(calls, { openIngest: 1, recordBlob: 1 });
  assert.deepEqual(await callsDuring(() => readAll(namespace, digestOf(data))), { resolveBlobs: 1 });
});

test("the files lie where containerd has them, with its modes", async () => {
  const namespace = newNamespace();
  const call = new WriteCall(client, { namespace });
  await call.stat({ ref: "layout", total: 6n });
  await call.write(Buffer.from("abc"), 0n);
  await call.finish();
  const backendRef = content.index.ingests.get(namespace)?.get("layout")?.backendRef ?? "";
  const directory = `${content.root}/ingest/${digestOf(backendRef).slice("sha256:".length)}`;
  assert.deepEqual((await readdir(directory)).sort(), ["data", "ref", "startedat", "total", "updatedat"]);
  assert.equal(await readFile(`${directory}/ref`, "utf8"), backendRef);
  assert.equal(await readFile(`${directory}/total`, "utf8"), "6");
  assert.equal(await readFile(`${directory}/data`, "utf8"), "abc");
  assert.match(await readFile(`${directory}/startedat`, "utf8"), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);

  const again = new WriteCall(client, { namespace });
  await again.stat({ ref: "layout" });
  await again.commit({ offset: 3n, data: Buffer.from("def") });
  await again.finish();
  const blob = await stat(fileOf(digestOf("abcdef")));
  assert.equal(blob.mode & 0o777, 0o444);
  await assert.rejects(stat(directory), { code: "ENOENT" });
});

test("names that clients give never become paths", async () => {
  const namespace = newNamespace();
  for (const ref of ["../../../escape", "a/b/c", "nul\u0000byte", "x".repeat(20_000), "."]) {
    const call = new WriteCall(client, { namespace });
    await call.stat({ ref });
    await call.finish();
  }
  for (const name of await readdir(`${content.root}/ingest`)) {
    assert.match(name, /^[0-9a-f]{64}$/);
  }
  assert.deepEqual((await readdir(content.root)).sort(), ["blobs", "ingest"]);
});

test("OpenBlob tells those who may see a blob where it lies", async () => {
  const namespace = newNamespace();
  const digest = await put(namespace, Buffer.from("open me"));
  assert.deepEqual(
    { ...(await blobs.openBlob({ namespace, digest })) },
    { $typeName: "flotilla.blobs.v1.OpenBlobResponse", path: fileOf(digest), size: 7n },
  );
  await assert.rejects(blobs.openBlob({ namespace: newNamespace(), digest }), {
    kind: ErrorKind.NotFound,
    message: `content digest ${digest}: not found`,
  });
  await assert.rejects(blobs.openBlob({ namespace, digest: "../../etc/passwd" }), { kind: ErrorKind.InvalidArgument });
});

test("only blobs that are still condemned are removed, and absent ones count as removed", async () => {
  const namespace = newNamespace();
  const [wanted, unwanted] = [await put(namespace, randomBytes(10)), await put(namespace, randomBytes(10))];
  content.index.blobs.get(namespace)?.delete(unwanted);
  const absent = digestOf("never was");
  const { removedDigests } = await blobs.removeBlobs({ digests: [wanted, unwanted, absent, "../../x"] });
  assert.deepEqual(removedDigests.toSorted(), [unwanted, absent].toSorted());
  await assert.rejects(stat(fileOf(unwanted)), { code: "ENOENT" });
  await stat(fileOf(wanted));
});

test("a commit and a removal of the same bytes never leave a record without a file", async () => {
  const data = randomBytes(1000);
  const digest = digestOf(data);
  for (let round = 0; round < 40; round += 1) {
    const namespace = newNamespace();
    content.index.before = (method) => (round % 2 === Number(method === "recordBlob") ? delay(round % 5) : undefined);
    const call = new WriteCall(client, { namespace });
    await call.stat({ ref: "race" });
    await call.write(data, 0n);
    await Promise.all([
      call.commit({ offset: 1000n }).then(() => call.finish()),
      blobs.removeBlobs({ digests: [digest] }),
    ]);
    content.index.before = () => undefined;
    assert.ok((await readAll(namespace, digest)).equals(data), `round ${round}`);
    content.index.blobs.delete(namespace);
  }
});

test("an ingest that is collected while a client writes it goes when the client does", async () => {
  const namespace = newNamespace();
  const call = new WriteCall(client, { namespace });
  await call.stat({ ref: "collected" });
  await call.write(Buffer.from("abc"), 0n);
  const backendRef = content.index.ingests.get(namespace)?.get("collected")?.backendRef ?? "";
  content.index.ingests.get(namespace)?.delete("collected");
  const directory = `${content.root}/ingest/${digestOf(backendRef).slice("sha256:".length)}`;
  await blobs.removeBlobs({ backendRefs: [backendRef] });
  assert.equal(await readFile(`${directory}/data`, "utf8"), "abc");
  await call.finish();
  await assert.rejects(stat(directory), { code: "ENOENT" });
  await blobs.removeBlobs({ backendRefs: [backendRef] });
});

test("an ingest that is ended while it is being opened is opened anew", async () => {
  const namespace = newNamespace();
  const first = new WriteCall(client, { namespace });
  await first.stat({ ref: "overtaken" });
  const held = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  // The answer to the second opening is on its way while the first writer commits.
  content.index.after = async (method) => {
    if (method === "openIngest") {
      content.index.after = () => undefined;
      asked.resolve();
      await held.promise;
    }
  };
  const second = new WriteCall(client, { namespace });
  const opened = second.stat({ ref: "overtaken" });
  await asked.promise;
  await first.commit({ data: randomBytes(10) });
  await first.finish();
  held.resolve();
  assert.equal((await opened).offset, 0n);
  assert.equal(content.index.ingests.get(namespace)?.size, 1);
  await second.finish();
  assert.equal((await client.status({ ref: "overtaken" }, { headers: clientHeaders(namespace) })).status?.offset, 0n);
});

test("a commit outlives a broken connection to the index", async () => {
  const namespace = newNamespace();
  let breaksLeft = 1;
  content.index.before = async (method) => {
    if (method === "recordBlob" && breaksLeft > 0) {
      breaksLeft -= 1;
      await content.breakIndex();
      throw failure(ErrorKind.Unavailable, "nobody hears this");
    }
  };
  const data = randomBytes(100);
  await put(namespace, data);
  assert.equal(breaksLeft, 0);
  content.index.before = () => undefined;
  assert.ok((await readAll(namespace, digestOf(data))).equals(data));
});

test("a commit that the index refuses leaves no file and keeps the ingest", async () => {
  const namespace = newNamespace();
  const data = randomBytes(100);
  content.index.before = (method) => {
    if (method === "recordBlob") {
      throw failure(ErrorKind.NotFound, "lease does not exist");
    }
  };
  const call = new WriteCall(client, { namespace });
  await call.stat({ ref: "refused" });
  await assert.rejects(call.commit({ data }), { kind: ErrorKind.NotFound, message: "lease does not exist: not found" });
  content.index.before = () => undefined;
  await assert.rejects(stat(fileOf(digestOf(data))), { code: "ENOENT" });
  const again = new WriteCall(client, { namespace });
  assert.equal((await again.stat({ ref: "refused" })).offset, 100n);
  await again.write(Buffer.from("more"), 100n);
  await again.commit({ offset: 104n });
  await again.finish();
  assert.equal((await readAll(namespace, digestOf(Buffer.concat([data, Buffer.from("more")])))).length, 104);
});

test("a blob whose file is gone or cut short comes back when it is written again", async () => {
  const [owner, other] = [newNamespace(), newNamespace()];
  const data = randomBytes(5000);
  const digest = await put(owner, data);
  for (const damage of ["gone", "cut short"] as const) {
    await (damage === "gone" ? rm(fileOf(digest)) : truncate(fileOf(digest), 100));
    const read = readAll(owner, digest);
    await assert.rejects(read, { kind: damage === "gone" ? ErrorKind.NotFound : ErrorKind.DataLoss });
    const call = new WriteCall(client, { namespace: damage === "gone" ? other : newNamespace() });
    assert.equal((await call.stat({ ref: "healing", expected: digest })).offset, 0n, damage);
    await call.commit({ data, expected: digest });
    await call.finish();
    assert.ok((await readAll(owner, digest)).equals(data));
  }
});

test("a reader that goes away in the middle leaves no file open", async () => {
  const namespace = newNamespace();
  const data = Buffer.alloc(64 * 1024 * 1024, "slow reader ");
  const call = new WriteCall(client, { namespace });
  await call.stat({ ref: "large" });
  for (let offset = 0; offset < data.length; offset += 8 * 1024 * 1024) {
    await call.write(data.subarray(offset, offset + 8 * 1024 * 1024), BigInt(offset));
  }
  await call.commit({ offset: BigInt(data.length) });
  await call.finish();
  const openBlobs = async (): Promise<number> => {
    const files = await readdir(`/proc/${content.pid}/fd`);
    const targets = await Promise.all(files.map((fd) => readlink(`/proc/${content.pid}/fd/${fd}`).catch(() => "")));
    return targets.filter((target) => target.startsWith(`${content.root}/blobs/`)).length;
  };
  const before = await openBlobs();
  const stop = new AbortController();
  const options = { headers: clientHeaders(namespace), signal: stop.signal };
  const readers = Array.from({ length: 8 }, () => {
    const chunks = client.read({ digest: digestOf(data) }, options);
    return chunks[Symbol.asyncIterator]();
  });
  await Promise.all(readers.map((reader) => reader.next()));
  assert.equal(await openBlobs(), before + readers.length);
  stop.abort();
  for (const deadline = performance.now() + 10_000; (await openBlobs()) > before; ) {
    assert.ok(performance.now() < deadline, "the files are closed");
    await delay(10);
  }
});

test("a process that is told to stop lets go of what is being written, and the next one takes it up", async () => {
  const namespace = newNamespace();
  const call = new WriteCall(client, { namespace });
  await call.stat({ ref: "interrupted" });
  await call.write(Buffer.from("kept"), 0n);
  const ended = call.receive().catch((error: unknown) => error);
  assert.equal(await content.stop(), 0);
  await ended;
  await content.restart();
  connect();
  const again = new WriteCall(client, { namespace });
  const status = await again.stat({ ref: "interrupted" });
  assert.deepEqual([status.offset, status.digest], [4n, digestOf("kept")]);
  await again.finish();
});

test("at its start the process compares files with records", async () => {
  const namespace = newNamespace();
  const [lost, orphan] = [await put(namespace, randomBytes(20)), await put(namespace, randomBytes(20))];
  const call = new WriteCall(client, { namespace });
  await call.stat({ ref: "orphan" });
  await call.finish();
  await content.kill();
  await rm(fileOf(lost));
  content.index.blobs.get(namespace)?.delete(orphan);
  content.index.ingests.get(namespace)?.delete("orphan");
  const ingest = `${content.root}/ingest`;
  const before = (await readdir(ingest)).length;
  await mkdir(`${ingest}/${"0".repeat(64)}`);
  await mkdir(`${ingest}/${"1".repeat(64)}`);
  await writeFile(`${ingest}/${"1".repeat(64)}/ref`, "some/other/ref");
  await writeFile(`${content.root}/blobs/stray`, "not a blob");
  await writeFile(`${content.root}/blobs/sha256/stray`, "not a blob either");
  content.log = "";
  await content.restart();
  connect();
  assert.equal((await readdir(ingest)).length, before - 1);
  assert.match(content.log, new RegExp(`"${lost}".*is gone`));
  assert.match(content.log, new RegExp(`"${orphan}".*without a record`));
  assert.deepEqual((await blobs.removeBlobs({ digests: [orphan] })).removedDigests, [orphan]);
  await assert.rejects(stat(fileOf(orphan)), { code: "ENOENT" });
});

test("the process tells its plugins as containerd has them, and one of ours", async () => {
  const { plugins } = await createClient(Member, content.transport).describe({});
  assert.deepEqual(
    plugins.map(({ type, id, exports, initErr }) => ({ type, id, exports, initErr })),
    [
      { type: "io.containerd.content.v1", id: "content", exports: { root: content.root }, initErr: undefined },
      { type: "io.flotilla.content.v1", id: "copies", exports: {}, initErr: undefined },
      { type: "io.containerd.service.v1", id: "content-service", exports: {}, initErr: undefined },
      { type: "io.containerd.grpc.v1", id: "content", exports: {}, initErr: undefined },
    ],
  );
});

test("a message beyond 16 MiB is refused", async () => {
  const call = new WriteCall(client, { namespace: newNamespace() });
  await call.stat({ ref: "huge" });
  await assert.rejects(call.send({ action: WriteAction.WRITE, data: Buffer.alloc(17 * 1024 * 1024) }), {
    kind: ErrorKind.ResourceExhausted,
  });
});
