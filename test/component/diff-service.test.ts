import assert from "node:assert/strict";
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import test, { type TestContext } from "node:test";
import { gunzipSync, gzipSync, zstdDecompressSync } from "node:zlib";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import type { StreamProcessorConfig } from "#config/config.ts";
import { Content, WriteAction } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { MountSchema } from "#gen/containerd/types/mount_pb.ts";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { mountPointsBelow } from "#linux/unmount.ts";
import { connectRpc } from "#wire/client.ts";
import { bindService } from "#wire/handler.ts";
import { clientHeaders, leaseOf, requireNamespace } from "#wire/headers.ts";
import { serveRpc } from "#wire/server.ts";
import { connectBlobStore } from "../../services/snapshots/layers/blob-client.ts";
import { diffService, ownDiffProvider } from "../../services/snapshots/layers/diff-service.ts";
import { Differ } from "../../services/snapshots/layers/differ.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { layerOf } from "./layer-rig.ts";

const layerType = "application/vnd.oci.image.layer.v1.tar";
const namespace = "diff-test";

/** Stands for the processes that keep blobs and their labels. */
interface Store {
  readonly blobs: Map<string, { readonly data: Buffer; labels: Record<string, string> }>;
  /** Writes that were committed, in order. */
  readonly commits: { readonly ref: string; readonly lease: string; readonly expected: string }[];
  readonly aborted: string[];
  /** What refs have before they are written to. */
  readonly ingests: Map<string, Buffer>;
}

interface Rig {
  readonly path: string;
  readonly store: Store;
  readonly diff: Client<typeof Diff>;
  readonly put: (data: Buffer) => string;
}

async function openRig(
  context: TestContext,
  programs: ReadonlyMap<string, StreamProcessorConfig> = new Map(),
): Promise<Rig> {
  const resources = new AsyncDisposableStack();
  context.after(() => resources.disposeAsync());
  const { path } = resources.use(await makeTemporaryDirectory("diff"));
  const store: Store = { blobs: new Map(), commits: [], aborted: [], ingests: new Map() };
  mkdirSync(`${path}/blobs`);
  const serve = async (name: string, ...services: Parameters<typeof serveRpc>[0]["services"]): Promise<string> => {
    const socketPath = `${path}/${name}.sock`;
    const server = await serveRpc({ socketPath, services });
    resources.defer(() => server.close(0));
    return socketPath;
  };
  const open = (socketPath: string): ReturnType<typeof connectRpc> =>
    resources.adopt(connectRpc(socketPath), (connection) => connection.close());
  const content = open(await serve("content", blobFiles(path, store), contentBytes(store)));
  const metadata = open(await serve("metadata", contentRecords(store)));
  const differ = new Differ({
    blobs: connectBlobStore({ content, metadata }),
    threads: resources.use(new LayerThreads()),
    mounts: { withActivated: (mounts, use) => use(mounts) },
    limits: { entriesMax: 0, depthMax: 0, ratioMax: 0 },
    temporaryMounts: `${path}/tmpmounts`,
    programs,
  });
  const service = diffService(() => [ownDiffProvider(differ, { syncFileSystem: false })]);
  const diff = createClient(Diff, open(await serve("snapshots", service)).transport);
  return {
    path,
    store,
    diff,
    put: (data) => {
      const digest = digestOf(data);
      store.blobs.set(digest, { data, labels: {} });
      writeFileSync(`${path}/blobs/${digest}`, data);
      return digest;
    },
  };
}

function digestOf(data: Buffer): string {
  return `sha256:${createHash("sha256").update(data).digest("hex")}`;
}

function blobFiles(path: string, store: Store): ReturnType<typeof bindService> {
  return bindService(Blobs, {
    openBlob: (request) => {
      const blob = request.namespace === namespace ? store.blobs.get(request.digest) : undefined;
      if (blob === undefined) {
        throw failure(ErrorKind.NotFound, `content digest ${request.digest}`);
      }
      return { path: `${path}/blobs/${request.digest}`, size: BigInt(blob.data.length) };
    },
  });
}

function contentBytes(store: Store): ReturnType<typeof bindService> {
  return bindService(Content, {
    async *write(requests, call) {
      assert.equal(requireNamespace(call), namespace);
      let ref = "";
      let data: Buffer = Buffer.alloc(0);
      for await (const { action, ref: named, offset, data: more, expected, labels } of requests) {
        if (ref === "") {
          ref = named;
          data = store.ingests.get(ref) ?? data;
        }
        if (ref === "locked") {
          throw failure(ErrorKind.Unavailable, "ref locked");
        }
        if (offset === 0n) {
          data = Buffer.alloc(0);
        }
        assert.equal(offset, BigInt(data.length));
        data = Buffer.concat([data, more]);
        const digest = digestOf(data);
        if (action === WriteAction.COMMIT) {
          store.commits.push({ ref, lease: leaseOf(call), expected });
          if (store.blobs.has(digest)) {
            throw failure(ErrorKind.AlreadyExists, `content ${digest}`);
          }
          store.blobs.set(digest, { data, labels: { ...labels } });
        }
        yield { action, offset: BigInt(data.length), digest };
        if (action === WriteAction.COMMIT) {
          return;
        }
      }
    },
    abort: ({ ref }) => {
      store.aborted.push(ref);
      return {};
    },
  });
}

function contentRecords(store: Store): ReturnType<typeof bindService> {
  return bindService(Content, {
    info: ({ digest }) => ({ info: { digest, labels: store.blobs.get(digest)?.labels ?? {} } }),
    update: ({ info, updateMask }) => {
      const blob = store.blobs.get(info?.digest ?? "") ?? assert.fail("no such blob");
      assert.deepEqual(updateMask?.paths, ["labels.containerd.io/uncompressed"]);
      blob.labels = { ...blob.labels, ...info?.labels };
      return { info: { digest: info?.digest ?? "", labels: blob.labels } };
    },
  });
}

const headers = clientHeaders(namespace, "lease");

function bind(source: string, ...options: string[]): MessageInitShape<typeof MountSchema> {
  return create(MountSchema, { type: "bind", source, options: ["rbind", ...options] });
}

test("a layer is applied to a bind mount, an overlay and a mount of another kind", async (context) => {
  const { path, diff, put } = await openRig(context);
  const layer = layerOf({ name: "d/" }, { name: "d/.wh.gone" }, { name: "d/file", data: "content" });
  const digest = put(gzipSync(layer));
  const applied = { mediaType: layerType, digest: digestOf(layer), size: BigInt(layer.length) };
  for (const name of ["bind", "upper", "work", "lower", "merged/d"]) {
    mkdirSync(`${path}/${name}`, { recursive: true });
  }
  writeFileSync(`${path}/merged/d/gone`, "");
  const apply = async (...mounts: MessageInitShape<typeof MountSchema>[]): Promise<void> => {
    const request = { diff: { mediaType: `${layerType}+gzip`, digest, size: 1n }, mounts, syncFs: true };
    const response = await diff.apply(request, { headers });
    assert.deepEqual(
      { ...response.applied, $typeName: undefined, annotations: undefined },
      {
        ...applied,
        $typeName: undefined,
        annotations: undefined,
      },
    );
  };
  await apply(bind(`${path}/bind`, "rw"));
  assert.deepEqual(readdirSync(`${path}/bind/d`), ["file"]);
  const options = [`workdir=${path}/work`, `upperdir=${path}/upper`, `lowerdir=${path}/lower`];
  await apply({ type: "overlay", source: "overlay", options });
  assert.deepEqual(readdirSync(`${path}/upper/d`), ["file", "gone"]);
  await apply(bind(`${path}/merged`, "rw"), { ...bind(`${path}/merged/d`, "rw"), target: "d" });
  assert.deepEqual(readdirSync(`${path}/merged/d`), ["file"]);
  assert.deepEqual(readdirSync(`${path}/tmpmounts`), []);
  assert.deepEqual(await mountPointsBelow(path), []);
});

test("what cannot be applied is told in containerd's words", async (context) => {
  const { path, diff, put } = await openRig(context);
  mkdirSync(`${path}/root`);
  const mounts = [bind(`${path}/root`, "rw")];
  const digest = put(layerOf());
  const missing = digestOf(Buffer.from("missing"));
  await assert.rejects(diff.apply({ diff: { mediaType: layerType, digest: missing }, mounts }, { headers }), {
    kind: "not found",
    message: `failed to get reader from content store: content digest ${missing}: not found`,
  });
  await assert.rejects(diff.apply({ diff: { mediaType: "text/plain", digest }, mounts }, { headers }), {
    kind: "unknown",
    message: "failed to get stream processor for text/plain: no processor for media-type",
  });
  await assert.rejects(diff.apply({ diff: { mediaType: layerType, digest }, mounts }), {
    message: "namespace is required: failed precondition",
  });
  const nowhere = [{ type: "overlay", source: "overlay", options: ["lowerdir=/does/not/exist"] }];
  await assert.rejects(diff.apply({ diff: { mediaType: layerType, digest }, mounts: nowhere }, { headers }), {
    message: /^failed to mount .*: no such file or directory$/,
  });
  await assert.rejects(diff.apply({ diff: { mediaType: layerType, digest }, mounts: [] }, { headers }), {
    message: "there are no mounts to apply the layer to: invalid argument",
  });
  const broken = put(Buffer.from("broken".repeat(100)));
  await assert.rejects(diff.apply({ diff: { mediaType: layerType, digest: broken }, mounts }, { headers }), {
    message: "archive/tar: invalid tar header",
  });
  assert.deepEqual(readdirSync(`${path}/tmpmounts`), []);
});

test("a difference becomes a blob with the labels that were asked for", async (context) => {
  const { path, store, diff } = await openRig(context);
  for (const name of ["left", "right"]) {
    mkdirSync(`${path}/${name}`);
    writeFileSync(`${path}/${name}/same`, "");
  }
  writeFileSync(`${path}/left/gone`, "");
  writeFileSync(`${path}/right/new`, "new");
  const trees = { left: [bind(`${path}/left`, "ro")], right: [bind(`${path}/right`, "rw")] };
  store.ingests.set("known", Buffer.from("left behind by an earlier try"));
  const uncompressed = new Set<string>();
  for (const [mediaType, decompress] of [
    [layerType, (data: Buffer) => data],
    [`${layerType}+gzip`, (data: Buffer) => gunzipSync(data)],
    [`${layerType}+zstd`, (data: Buffer) => zstdDecompressSync(data)],
    ["", (data: Buffer) => gunzipSync(data)],
  ] as const) {
    const request = { ...trees, mediaType, ref: "known", labels: { own: "label" } };
    const { diff: made } = await diff.diff(request, { headers });
    const blob = store.blobs.get(made?.digest ?? "") ?? assert.fail("no blob");
    assert.equal(made?.mediaType, mediaType === "" ? `${layerType}+gzip` : mediaType);
    assert.equal(made.size, BigInt(blob.data.length));
    const layer = decompress(blob.data);
    uncompressed.add(digestOf(layer));
    assert.deepEqual(
      blob.labels,
      mediaType === layerType ? { own: "label" } : { own: "label", "containerd.io/uncompressed": digestOf(layer) },
    );
    assert.deepEqual(store.commits.at(-1), { ref: "known", lease: "lease", expected: made.digest });
  }
  assert.equal(uncompressed.size, 1);
  assert.deepEqual(store.aborted, []);
  assert.deepEqual(readdirSync(`${path}/tmpmounts`), []);
});

test("a blob that was there gets the label that it lacks, and keeps the one it has", async (context) => {
  const { path, store, diff } = await openRig(context);
  for (const name of ["left", "right"]) {
    mkdirSync(`${path}/${name}`);
  }
  const request = { left: [bind(`${path}/left`, "ro")], right: [bind(`${path}/right`, "ro")] };
  const { diff: first } = await diff.diff(request, { headers });
  const blob = store.blobs.get(first?.digest ?? "") ?? assert.fail("no blob");
  const uncompressed = digestOf(gunzipSync(blob.data));
  blob.labels = { other: "label" };
  const { diff: second } = await diff.diff(request, { headers });
  assert.deepEqual(second, first);
  assert.deepEqual(blob.labels, { other: "label", "containerd.io/uncompressed": uncompressed });
  blob.labels = { "containerd.io/uncompressed": "kept" };
  await diff.diff(request, { headers });
  assert.deepEqual(blob.labels, { "containerd.io/uncompressed": "kept" });
});

test("times are written no later than the time that was asked for", async (context) => {
  const { path, store, diff } = await openRig(context);
  for (const name of ["left", "right"]) {
    mkdirSync(`${path}/${name}`);
  }
  writeFileSync(`${path}/right/file`, "");
  const { diff: made } = await diff.diff(
    {
      left: [bind(`${path}/left`, "ro")],
      right: [bind(`${path}/right`, "ro")],
      mediaType: layerType,
      sourceDateEpoch: { seconds: 1_000_000n, nanos: 500 },
    },
    { headers },
  );
  const layer = store.blobs.get(made?.digest ?? "")?.data ?? assert.fail("no blob");
  assert.equal(Number.parseInt(layer.toString("latin1", 136, 147), 8), 1_000_000);
});

test("a difference that cannot be written leaves nothing behind", async (context) => {
  const { path, store, diff } = await openRig(context);
  mkdirSync(`${path}/left`);
  mkdirSync(`${path}/right`);
  const trees = { left: [bind(`${path}/left`, "ro")], right: [bind(`${path}/right`, "ro")] };
  await assert.rejects(diff.diff({ ...trees, mediaType: "application/x-other" }, { headers }), {
    kind: "not implemented",
    message: "unsupported diff media type: application/x-other: not implemented",
  });
  await assert.rejects(diff.diff({ ...trees, ref: "locked" }, { headers }), {
    kind: "unavailable",
    message: /ref locked: unavailable$/,
  });
  assert.deepEqual(store.aborted, []);
  writeFileSync(`${path}/right/${"n".repeat(200)}`, "");
  let deep = `${path}/right`;
  for (let depth = 0; depth < 20; depth += 1) {
    deep = `${deep}/${"d".repeat(100)}`;
  }
  mkdirSync(deep, { recursive: true });
  await diff.diff(trees, { headers });
  assert.deepEqual(readdirSync(`${path}/tmpmounts`), []);
  assert.deepEqual(await mountPointsBelow(path), []);
});

function script(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
}

test("a configured program turns a stream into a layer, with what the client sends for it", async (context) => {
  const encrypted = `${layerType}+gzip+encrypted`;
  const programs = new Map<string, StreamProcessorConfig>();
  const { path, diff, put } = await openRig(context, programs);
  script(
    `${path}/program`,
    `echo "$1 $EXTRA $STREAM_PROCESSOR_MEDIATYPE" > ${path}/told; cat <&3 > ${path}/payload; exec base64 -d`,
  );
  programs.set("rot", {
    accepts: [encrypted],
    returns: `${layerType}+gzip`,
    path: `${path}/program`,
    args: ["argument"],
    env: ["EXTRA=extra=value"],
  });
  mkdirSync(`${path}/root`);
  const layer = layerOf({ name: "large", data: "x".repeat(3_000_000) });
  const digest = put(Buffer.from(gzipSync(layer).toString("base64")));
  const payload = create(AnySchema, { typeUrl: "some.Type", value: new Uint8Array([1, 2, 3]) });
  const { applied } = await diff.apply(
    { diff: { mediaType: encrypted, digest }, mounts: [bind(`${path}/root`, "rw")], payloads: { rot: payload } },
    { headers },
  );
  assert.equal(applied?.digest, digestOf(layer));
  assert.equal(readFileSync(`${path}/told`, "utf8"), `argument extra=value ${encrypted}\n`);
  assert.deepEqual(Buffer.from(toBinary(AnySchema, payload)), readFileSync(`${path}/payload`));
});

for (const [mediaType, returns] of [
  ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted", `${layerType}+gzip`],
  ["application/vnd.oci.image.layer.v1.tar+encrypted", layerType],
] as const) {
  test(`a layer of ${mediaType} is decrypted with the key that the client sends, and with no other`, async (context) => {
    const programs = new Map<string, StreamProcessorConfig>();
    const { path, diff, put } = await openRig(context, programs);
    writeFileSync(
      `${path}/decrypt.mjs`,
      `import { createDecipheriv } from "node:crypto";
       import { readFileSync } from "node:fs";
       const payload = readFileSync(3);
       const key = payload.subarray(payload.length - 32);
       const chunks = [];
       for await (const chunk of process.stdin) chunks.push(chunk);
       const sealed = Buffer.concat(chunks);
       const decipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, 12));
       decipher.setAuthTag(sealed.subarray(12, 28));
       process.stdout.write(Buffer.concat([decipher.update(sealed.subarray(28)), decipher.final()]));
      `,
    );
    script(`${path}/program`, `exec ${process.execPath} ${path}/decrypt.mjs`);
    programs.set("decrypt", { accepts: [mediaType], returns, path: `${path}/program`, args: [], env: [] });
    mkdirSync(`${path}/root`);
    const layer = layerOf({ name: "secret", data: "nobody knows" });
    const key = randomBytes(32);
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    const plain = returns === layerType ? layer : gzipSync(layer);
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
    const digest = put(Buffer.concat([nonce, cipher.getAuthTag(), sealed]));
    const apply = (value: Buffer) =>
      diff.apply(
        {
          diff: { mediaType, digest },
          mounts: [bind(`${path}/root`, "rw")],
          payloads: { decrypt: create(AnySchema, { typeUrl: "test.Key", value }) },
        },
        { headers },
      );
    await assert.rejects(apply(randomBytes(32)), /unable to authenticate data/);
    assert.deepEqual(readdirSync(`${path}/root`), []);
    assert.equal((await apply(key)).applied?.digest, digestOf(layer));
    assert.equal(readFileSync(`${path}/root/secret`, "utf8"), "nobody knows");
  });
}

test("a program that fails is told with its own words", async (context) => {
  const programs = new Map<string, StreamProcessorConfig>();
  const { path, diff, put } = await openRig(context, programs);
  const config = { returns: layerType, args: [], env: [] };
  script(`${path}/broken`, "echo no key for this layer >&2; exit 3");
  programs.set("broken", { ...config, accepts: ["x/broken"], path: `${path}/broken` });
  programs.set("missing", { ...config, accepts: ["x/missing"], path: `${path}/missing` });
  mkdirSync(`${path}/root`);
  const mounts = [bind(`${path}/root`, "rw")];
  const digest = put(Buffer.alloc(1_000_000, "x"));
  await assert.rejects(diff.apply({ diff: { mediaType: "x/broken", digest }, mounts }, { headers }), {
    message: /^no key for this layer\n?$/,
  });
  await assert.rejects(diff.apply({ diff: { mediaType: "x/missing", digest }, mounts }, { headers }), {
    message: new RegExp(`${path}/missing`),
  });
});

test("a call that the client gives up stops its program", { timeout: 30_000 }, async (context) => {
  const programs = new Map<string, StreamProcessorConfig>();
  const { path, diff, put } = await openRig(context, programs);
  script(`${path}/slow`, `echo $$ > ${path}/pid; exec sleep 600`);
  programs.set("slow", { accepts: ["x/slow"], returns: layerType, path: `${path}/slow`, args: [], env: [] });
  mkdirSync(`${path}/root`);
  const canceling = new AbortController();
  const call = diff.apply(
    { diff: { mediaType: "x/slow", digest: put(Buffer.from("x")) }, mounts: [bind(`${path}/root`, "rw")] },
    { headers, signal: canceling.signal },
  );
  const pid = await poll(() => Number(readFileSync(`${path}/pid`, "utf8")) || undefined);
  canceling.abort();
  await assert.rejects(call, { kind: "context canceled" });
  await poll(() => (readdirSync("/proc").includes(String(pid)) ? undefined : true));
});

async function poll<T>(find: () => T | undefined): Promise<T> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    try {
      const found = find();
      if (found !== undefined) {
        return found;
      }
    } catch {
      // Not there yet.
    }
    assert.ok(performance.now() < deadline, "it did not come");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
