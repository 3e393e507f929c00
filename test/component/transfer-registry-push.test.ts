import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind } from "#base/errors.ts";
import type {
  Credentials,
  Descriptor,
  RegistryRequest,
  TransferProgress,
} from "../../services/transfer/registry/ports.ts";
import { Registries } from "../../services/transfer/registry/registry.ts";
import { type Act, answer, cutUploadAfter, HostileRegistry } from "../kit/hostile-registry.ts";
import { MemoryContentStore } from "../kit/memory-content-store.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";
const layerType = "application/vnd.oci.image.layer.v1.tar";
const settings = {
  maxConcurrentDownloads: 3,
  concurrentLayerFetchBytes: 0,
  maxConcurrentUploads: 2,
  noProgressMs: 20_000,
  retryDelayMs: 1,
};
const signal = AbortSignal.timeout(120_000);
const puts = /^PUT .*\/uploads\//;
const patches = /^PATCH .*\/uploads\//;
const posts = /^POST .*\/uploads\//;

interface Stand extends AsyncDisposable {
  readonly server: HostileRegistry;
  readonly store: MemoryContentStore;
  push(root: Descriptor, request?: Partial<RegistryRequest>): Promise<TransferProgress[]>;
}

/** A store, a registry that can be told to misbehave, and us between them. */
async function stand(overrides: Partial<typeof settings> = {}): Promise<Stand> {
  const server = await HostileRegistry.start();
  const store = new MemoryContentStore();
  const registries = new Registries({ ...settings, ...overrides }, "containerd/test");
  return {
    server,
    store,
    async push(root, request = {}) {
      const base = { reference: `${server.host}/a/b:v1`, hostDirectories: [], defaultScheme: "http", headers: {} };
      await using registry = await registries.open({ ...base, ...request });
      const told: TransferProgress[] = [];
      const listChildren = async ({ digest }: Descriptor): Promise<Descriptor[]> => {
        const parsed = JSON.parse(String(store.blobs.get(digest)?.bytes)) as Record<string, Descriptor[]>;
        return [...(parsed["manifests"] ?? []), ...(parsed["layers"] ?? [])];
      };
      const onProgress = (progress: TransferProgress): void => void told.push(progress);
      await registry.push(root, { content: store, listChildren, onProgress, signal });
      return told;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

function addManifest({ store }: Stand, ...layers: Descriptor[]): Descriptor {
  return store.add(JSON.stringify({ schemaVersion: 2, layers }), manifestType);
}

test("what is referred to goes before what refers to it, and only the root gets the tag", async () => {
  await using s = await stand();
  const manifests = [1, 2].map((seed) => addManifest(s, s.store.add(randomBytes(seed * 1000), layerType)));
  const inner = s.store.add(JSON.stringify({ manifests }), indexType);
  const root = s.store.add(JSON.stringify({ manifests: [inner] }), indexType);
  await s.push(root);
  const changes = s.server.requests.filter((request) => request.startsWith("PUT"));
  const shapes = changes.map((line) => (puts.test(line) ? "blob" : line.replace(/^PUT .*\/manifests\//, "")));
  assert.deepEqual(shapes.slice(0, 2), ["blob", "blob"]);
  assert.deepEqual(new Set(shapes.slice(2, 4)), new Set(manifests.map(({ digest }) => digest)));
  assert.deepEqual(shapes.slice(4), [inner.digest, "v1"]);
  assert.equal(s.server.tags.get("v1"), root.digest);
});

test("what the registry has is asked for side by side and over connections that are kept, and sending keeps to the settings", async () => {
  await using s = await stand();
  const layers = Array.from({ length: 12 }, (_, at) => s.store.add(randomBytes(100 + at), layerType));
  const root = addManifest(s, ...layers);
  const most = { asked: 0, sent: 0 };
  const now = { asked: 0, sent: 0 };
  const sockets = new Set<unknown>();
  const allAsked = Promise.withResolvers<void>();
  const watch =
    (what: "asked" | "sent", until: () => Promise<void>): Act =>
    async ({ request, serve }) => {
      sockets.add(request.socket);
      now[what] += 1;
      most[what] = Math.max(most[what], now[what]);
      await until();
      await serve();
      now[what] -= 1;
    };
  s.server.misbehave(
    puts,
    watch("sent", () => delay(5)),
  );
  s.server.misbehave(
    /^HEAD /,
    watch("asked", async () => {
      if (now.asked === 10) {
        allAsked.resolve();
      }
      await allAsked.promise;
    }),
  );
  await s.push(root);
  assert.deepEqual(most, { asked: 10, sent: 2 });
  assert.equal(s.server.count(/^HEAD .*v1/), 2, "the tag may have been set meanwhile");
  assert.ok(sockets.size <= 12, `${sockets.size} connections`);

  const before = s.server.requests.length;
  const told = await s.push(root);
  assert.equal(s.server.requests.length - before, 13, "one question for each, and nothing sent");
  assert.ok(told.every(({ state }) => state === "active" || state === "existed"));
});

test("a registry that answers questions with bodies, which it may not, is asked all the same", async () => {
  await using s = await stand();
  const root = addManifest(s, ...Array.from({ length: 12 }, (_, at) => s.store.add(randomBytes(100 + at), layerType)));
  s.server.misbehave(/^HEAD /, ({ request }) => {
    request.socket.write("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot there");
  });
  await s.push(root);
  assert.equal(s.server.tags.get("v1"), root.digest);
});

test("an upload that is cut goes on where the registry has come to", async () => {
  await using s = await stand();
  const layer = s.store.add(randomBytes(20_000_000), layerType);
  s.server.misbehave(puts, cutUploadAfter(5_000_000), 1);
  s.server.misbehave(patches, cutUploadAfter(3_000_000), 2);
  const told = await s.push(layer);
  assert.deepEqual(s.server.stored.get(layer.digest)?.bytes, s.store.blobs.get(layer.digest)?.bytes);
  assert.equal(s.server.count(posts), 1, "it is one upload");
  assert.ok(s.server.count(patches) >= 3);
  assert.deepEqual(told.at(-1), { descriptor: layer, state: "complete", offset: layer.size });
});

test("an upload that the registry has thrown away begins anew, but not for ever", async () => {
  await using s = await stand();
  const layer = s.store.add(randomBytes(3_000_000), layerType);
  s.server.misbehave(/^GET .*\/uploads\//, answer(404));
  s.server.misbehave(puts, cutUploadAfter(1_000_000), 2);
  await s.push(layer);
  assert.equal(s.server.count(posts), 3);
  assert.deepEqual(s.server.stored.get(layer.digest)?.bytes, s.store.blobs.get(layer.digest)?.bytes);

  const other = s.store.add(randomBytes(3_000_000), layerType);
  s.server.misbehave(puts, cutUploadAfter(1_000_000));
  await assert.rejects(s.push(other), /failed to do request: Put "http:.*state=REDACTED&digest=sha256.*": /);
  assert.equal(s.server.count(posts), 3 + 6);
});

test("what is too large for one request goes in pieces", async () => {
  await using s = await stand();
  const layer = s.store.add(randomBytes(20_000_000), layerType);
  s.server.misbehave(puts, async (encounter) => {
    await (Number(encounter.request.headers["content-length"]) > 10_000_000
      ? answer(413)(encounter)
      : encounter.serve());
  });
  await s.push(layer);
  assert.deepEqual(s.server.stored.get(layer.digest)?.bytes, s.store.blobs.get(layer.digest)?.bytes);
  assert.equal(s.server.count(patches), 3);
});

test("an upload that is led elsewhere takes no secrets there", async () => {
  await using s = await stand();
  await using elsewhere = await HostileRegistry.start();
  const credentials = async (): Promise<Credentials> => ({ kind: "password", username: "ali", secret: "sesame" });
  s.server.misbehave(/./, ({ request, response, serve }) => {
    if (request.headers.authorization === undefined) {
      return answer(401, { "www-authenticate": 'Basic realm="x"' })({ request, response, serve, registry: s.server });
    }
    if (request.method === "POST") {
      return answer(202, { location: `http://${elsewhere.host}/bucket/upload?signature=presigned` })({
        request,
        response,
        serve,
        registry: s.server,
      });
    }
    return serve();
  });
  elsewhere.misbehave(/./, answer(201));
  const layer = s.store.add(randomBytes(1000), layerType);
  await s.push(layer, { credentials, headers: { "x-api-key": "topsecret" } });
  assert.deepEqual(
    elsewhere.requests.map((line) => line.replace(/sha256.*/, "")),
    ["PUT /bucket/upload?signature=presigned&digest="],
  );
  assert.equal(elsewhere.headers[0]?.authorization, undefined);
  assert.equal(elsewhere.headers[0]?.["x-api-key"], undefined);
  elsewhere.misbehave(/./, answer(403));
  await assert.rejects(s.push(s.store.add("x", layerType), { credentials }), ({ message }: Error) => {
    assert.match(message, /: 403 Forbidden$/);
    assert.doesNotMatch(message, /presigned|sesame/);
    return true;
  });
});

test("the first failure ends a push, in the registry's words, and the manifest is not sent", async () => {
  await using s = await stand();
  const layers = Array.from({ length: 10 }, () => s.store.add(randomBytes(1000), layerType));
  const root = addManifest(s, ...layers);
  s.server.misbehave(puts, answer(400, {}, '{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"no thanks"}]}'));
  await assert.rejects(s.push(root), /: 400 Bad Request\nunknown: no thanks$/);
  assert.ok(s.server.count(posts) <= 3, "nothing more is begun");
  assert.equal(s.server.count(/^PUT .*\/manifests\//), 0);

  const missing = addManifest(s);
  const index = s.store.add(JSON.stringify({ manifests: [missing] }), indexType);
  s.server.misbehave(/^PUT .*\/manifests\/v1/, answer(400));
  await assert.rejects(
    s.push(index),
    /^RegistryError: manifest list\/index references to blobs and\/or manifests are missing in your target registry: /,
  );
});

test("a registry that stores something else is not believed", async () => {
  await using s = await stand();
  s.server.misbehave(puts, answer(201, { "docker-content-digest": `sha256:${"0".repeat(64)}` }));
  await assert.rejects(s.push(s.store.add("x", layerType)), /got digest sha256:0+, expected sha256:/);
});

test("a registry that takes no bytes is given up", async () => {
  await using s = await stand({ noProgressMs: 300 });
  const layer = s.store.add(randomBytes(30_000_000), layerType);
  s.server.misbehave(puts, ({ request }) => void request.pause());
  s.server.misbehave(/^GET .*\/uploads\//, answer(404));
  await assert.rejects(s.push(layer), /no bytes taken for 0.3s: i\/o timeout$/);
});

test("a host that may not be pushed to is not asked", async () => {
  await using s = await stand();
  await using directory = await makeTemporaryDirectory("push");
  await mkdir(`${directory.path}/r.invalid`);
  const path = `${directory.path}/r.invalid/hosts.toml`;
  await writeFile(path, `server = "http://${s.server.host}"\ncapabilities = ["pull", "resolve"]\n`);
  const request = { reference: "r.invalid/a/b:v1", hostDirectories: [directory.path] };
  await assert.rejects(s.push(s.store.add("x", layerType), request), {
    kind: ErrorKind.NotFound,
    message: "no push hosts: not found",
  });
  assert.equal(s.server.requests.length, 0);
});

test("what the store lacks ends a push", async () => {
  await using s = await stand();
  const layer = s.store.add("x", layerType);
  s.store.blobs.delete(layer.digest);
  await assert.rejects(s.push(layer), { kind: ErrorKind.NotFound });
  assert.equal(s.server.stored.size, 0);
});
