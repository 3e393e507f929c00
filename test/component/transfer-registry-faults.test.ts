import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import test, { type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { ingestRef } from "../../services/transfer/registry/media-type.ts";
import type {
  Credentials,
  Descriptor,
  DownloadOutcome,
  Registry,
  RegistryRequest,
} from "../../services/transfer/registry/ports.ts";
import { Registries } from "../../services/transfer/registry/registry.ts";
import {
  type Act,
  answer,
  cutAfter,
  dawdle,
  fallSilent,
  fallSilentAfter,
  HostileRegistry,
  ignoreRange,
} from "../kit/hostile-registry.ts";
import { MemoryContentStore } from "../kit/memory-content-store.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const layerType = "application/vnd.oci.image.layer.v1.tar";
const settings = {
  maxConcurrentDownloads: 3,
  concurrentLayerFetchBytes: 0,
  maxConcurrentUploads: 3,
  noProgressMs: 20_000,
  retryDelayMs: 1,
};
const signal = AbortSignal.timeout(120_000);
const blobs = /^GET .*\/blobs\//;

interface Stand extends AsyncDisposable {
  readonly server: HostileRegistry;
  readonly store: MemoryContentStore;
  readonly registries: Registries;
  readonly registry: Registry;
  open(request?: Partial<RegistryRequest>): Promise<Registry>;
}

/** A registry that can be told to misbehave, a store, and us between them. */
async function stand(overrides: Partial<typeof settings> = {}, request: Partial<RegistryRequest> = {}): Promise<Stand> {
  const server = await HostileRegistry.start();
  const opened = new AsyncDisposableStack();
  opened.use(server);
  const registries = new Registries({ ...settings, ...overrides }, "containerd/test");
  const open = async (more: Partial<RegistryRequest> = {}): Promise<Registry> => {
    const reference = `${server.host}/a/b:v1`;
    const base = { reference, hostDirectories: [], defaultScheme: "http", headers: {} };
    return opened.use(await registries.open({ ...base, ...request, ...more }));
  };
  const registry = await open();
  const store = new MemoryContentStore();
  return { server, store, registries, registry, open, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

function download({ registry, store }: Stand, descriptor: Descriptor): Promise<DownloadOutcome> {
  return registry.download(descriptor, { content: store, labels: {}, signal });
}

test("a download that is cut goes on where it broke, as often as it takes", async () => {
  await using s = await stand();
  const bytes = randomBytes(3_000_000);
  const layer = s.server.add(bytes, layerType);
  s.server.misbehave(blobs, cutAfter(200_001), 9);
  assert.equal(await download(s, layer), "fetched");
  assert.deepEqual(s.store.blobs.get(layer.digest)?.bytes, bytes);
  assert.equal(s.server.count(blobs), 10);
  assert.ok(s.server.requests.at(-1)?.endsWith(` bytes=${9 * 200_001}-`));
});

test("a registry that ignores ranges is read from the beginning, and gives up when it never comes further", async () => {
  await using s = await stand();
  const bytes = randomBytes(1_000_000);
  const layer = s.server.add(bytes, layerType);
  s.server.misbehave(blobs, ignoreRange);
  s.server.misbehave(blobs, cutAfter(400_000), 1);
  assert.equal(await download(s, layer), "fetched");
  assert.deepEqual(s.store.blobs.get(layer.digest)?.bytes, bytes);

  const other = s.server.add(randomBytes(1_000_000), layerType);
  s.server.misbehave(blobs, async (encounter) => {
    delete encounter.request.headers.range;
    await cutAfter(400_000)(encounter);
  });
  await assert.rejects(download(s, other), /unexpected EOF|connection reset/);
  assert.equal(s.store.ingests.get(ingestRef(other))?.bytes.length, 400_000, "what came is kept for the next time");
});

test("an ingest that a killed process has left is gone on with", async () => {
  await using s = await stand();
  const bytes = randomBytes(1_000_000);
  const layer = s.server.add(bytes, layerType);
  s.store.leave(`layer-${layer.digest}`, bytes.subarray(0, 700_000));
  assert.equal(await download(s, layer), "fetched");
  assert.deepEqual(s.server.requests, [`GET /v2/a/b/blobs/${layer.digest} bytes=700000-`]);
  const whole = s.server.add(randomBytes(1000), layerType);
  s.store.leave(`layer-${whole.digest}`, s.server.stored.get(whole.digest)?.bytes ?? Buffer.alloc(0));
  assert.equal(await download(s, whole), "fetched");
  assert.equal(s.server.requests.length, 1, "a complete ingest needs no request");
});

test("what an ingest has of wrong bytes is thrown away, and fetched once more", async () => {
  await using s = await stand();
  const bytes = randomBytes(1_000_000);
  const layer = s.server.add(bytes, layerType);
  s.store.leave(ingestRef(layer), randomBytes(500_000));
  assert.equal(await download(s, layer), "fetched");
  assert.deepEqual(s.store.blobs.get(layer.digest)?.bytes, bytes);
  s.store.leave(ingestRef(layer), randomBytes(1_500_000));
  s.store.blobs.clear();
  assert.equal(await download(s, layer), "fetched");
});

test("a registry that lies about the bytes is found out, and leaves nothing behind", async () => {
  await using s = await stand();
  const layer = s.server.add(randomBytes(100_000), layerType);
  s.server.stored.set(layer.digest, { bytes: randomBytes(100_000), mediaType: layerType });
  await assert.rejects(download(s, layer), (error: Error) => {
    assert.ok(isFailure(error, ErrorKind.FailedPrecondition));
    assert.match(error.message, /^failed commit on ref "layer-sha256:.*": unexpected commit digest sha256:/);
    return true;
  });
  assert.equal(s.store.ingests.size, 0);
  assert.equal(s.store.blobs.size, 0);

  const manifest = s.server.add('{"schemaVersion":2}', manifestType);
  s.server.stored.set(manifest.digest, { bytes: Buffer.from('{"schemaVersion":3}'), mediaType: manifestType });
  await assert.rejects(s.registry.fetchManifest(manifest, signal), /unexpected digest sha256:.*failed precondition$/);
});

test("a registry that lies about the length is found out at once", async () => {
  for (const size of [99_999, 100_001]) {
    await using s = await stand();
    const layer = s.server.add(randomBytes(100_000), layerType);
    await assert.rejects(download(s, { ...layer, size }), {
      kind: ErrorKind.FailedPrecondition,
      message: `content at http://${s.server.host}/v2/a/b/blobs/${layer.digest} has 100000 bytes, expected ${size}: failed precondition`,
    });
    assert.equal(s.server.requests.length, 1);
  }
  await using s = await stand();
  const layer = s.server.add(randomBytes(100_000), layerType);
  s.server.misbehave(blobs, ({ response }) => {
    response.writeHead(200).end(randomBytes(200_000));
  });
  await assert.rejects(download(s, layer), /registry sent more than the expected 100000 bytes: failed precondition/);
});

test("a mirror with wrong bytes is left for the registry", async () => {
  await using s = await stand();
  await using mirror = await HostileRegistry.start();
  await using directory = await makeTemporaryDirectory("mirror");
  const bytes = randomBytes(100_000);
  const layer = s.server.add(bytes, layerType);
  mirror.stored.set(layer.digest, { bytes: randomBytes(100_000), mediaType: layerType });
  await mkdir(`${directory.path}/r.invalid`);
  await writeFile(
    `${directory.path}/r.invalid/hosts.toml`,
    `server = "http://${s.server.host}"\n[host."http://${mirror.host}"]\n`,
  );
  const registry = await s.open({ reference: "r.invalid/a/b:v1", hostDirectories: [directory.path] });
  assert.equal(await registry.download(layer, { content: s.store, labels: {}, signal }), "fetched");
  assert.deepEqual(s.store.blobs.get(layer.digest)?.bytes, bytes);
  assert.deepEqual([mirror.requests.length, s.server.requests.length], [1, 1]);
});

test("a mirror that cannot be reached is found out once", async () => {
  await using s = await stand();
  await using directory = await makeTemporaryDirectory("mirror");
  const dead = await HostileRegistry.start();
  const { host } = dead;
  await dead[Symbol.asyncDispose]();
  await mkdir(`${directory.path}/r.invalid`);
  const text = `server = "http://${s.server.host}"\n[host."http://${host}"]\n`;
  await writeFile(`${directory.path}/r.invalid/hosts.toml`, text);
  const told: string[] = [];
  const onExchange = (text: string): void => void told.push(text);
  const registry = await s.open({ reference: "r.invalid/a/b:v1", hostDirectories: [directory.path], onExchange });
  for (const layer of [s.server.add("1", layerType), s.server.add("2", layerType)]) {
    assert.equal(await registry.download(layer, { content: s.store, labels: {}, signal }), "fetched");
  }
  assert.equal(told.filter((text) => text.startsWith(`GET http://${host}/`)).length, 1);

  const startedAt = performance.now();
  await using slow = await new Registries({ ...settings, retryDelayMs: 5000 }, "x").open({
    reference: `${host}/a/b:v1`,
    hostDirectories: [],
    defaultScheme: "http",
    headers: {},
  });
  await assert.rejects(slow.resolve(signal), {
    message: `failed to do request: Head "http://${host}/v2/a/b/manifests/v1": dial tcp ${host}: connect: connection refused`,
  });
  assert.ok(performance.now() - startedAt < 2000, "where nobody listens nobody is waited for");
});

test("busy and broken for a moment is asked again, for good is told", async () => {
  await using s = await stand();
  const layer = s.server.add(randomBytes(1000), layerType);
  s.server.misbehave(blobs, answer(429, { "retry-after": "1" }), 1);
  s.server.misbehave(blobs, answer(503), 2);
  const startedAt = performance.now();
  assert.equal(await download(s, layer), "fetched");
  assert.ok(performance.now() - startedAt >= 1000, "what the registry asked for has been waited for");
  assert.equal(s.server.requests.length, 4);

  const other = s.server.add(randomBytes(1000), layerType);
  s.server.misbehave(blobs, answer(500, {}, '{"errors":[{"code":"UNKNOWN","message":"disk on fire"}]}'));
  await assert.rejects(download(s, other), {
    message: `unexpected status from GET request to http://${s.server.host}/v2/a/b/blobs/${other.digest}: 500 Internal Server Error\nunknown: disk on fire`,
  });
  assert.equal(s.server.requests.length, 9);
  s.server.misbehave(blobs, answer(429, { "retry-after": "86400" }));
  await assert.rejects(download(s, other), /: 429 Too Many Requests$/);
  assert.equal(s.server.requests.length, 10, "a wait of a day is not waited for");
});

test("silence ends a download, slowness does not", async () => {
  await using s = await stand({ noProgressMs: 400 });
  const slow = s.server.add(randomBytes(300), layerType);
  s.server.misbehave(blobs, dawdle(20, 150), 1);
  assert.equal(await download(s, slow), "fetched");
  assert.equal(s.server.requests.length, 1);

  const silent = s.server.add(randomBytes(100_000), layerType);
  s.server.misbehave(blobs, fallSilentAfter(1000), 1);
  assert.equal(await download(s, silent), "fetched", "another connection is tried");
  const mute = s.server.add(randomBytes(1000), layerType);
  s.server.misbehave(blobs, fallSilent, 5);
  await assert.rejects(download(s, mute), /timeout awaiting response headers for 0.4s: i\/o timeout$/);
});

test("cancelling ends a download at once, whatever the registry does", async () => {
  await using s = await stand();
  const layer = s.server.add(randomBytes(1000), layerType);
  for (const act of [fallSilent, fallSilentAfter(10), answer(503, { "retry-after": "60" })]) {
    s.server.misbehave(blobs, act);
    const controller = new AbortController();
    const before = s.server.requests.length;
    const downloading = s.registry.download(layer, { content: s.store, labels: {}, signal: controller.signal });
    await until(
      async () => s.server.requests.length > before,
      () => "asked",
      5000,
    );
    controller.abort();
    await assert.rejects(downloading, { kind: ErrorKind.Canceled });
  }
});

test("redirects lead to other hosts without saying who we are, and not for ever", async () => {
  const secret = `Basic ${Buffer.from("ali:sesame").toString("base64")}`;
  const credentials = async (): Promise<Credentials> => ({ kind: "password", username: "ali", secret: "sesame" });
  const told: string[] = [];
  await using s = await stand(
    {},
    { credentials, headers: { "x-api-key": "topsecret" }, onExchange: (text) => told.push(text) },
  );
  await using elsewhere = await HostileRegistry.start();
  const bytes = randomBytes(100_000);
  const layer = s.server.add(bytes, layerType);
  elsewhere.stored.set(layer.digest, { bytes, mediaType: layerType });
  s.server.misbehave(blobs, ({ request, response }) => {
    if (request.headers.authorization !== secret) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
      return;
    }
    const location = `http://${elsewhere.host}/v2/s3/blobs/${layer.digest}?X-Signature=presigned`;
    response.writeHead(307, { location }).end();
  });
  assert.equal(await download(s, layer), "fetched");
  assert.equal(s.server.headers.at(-1)?.["x-api-key"], "topsecret");
  const [{ authorization, "x-api-key": key } = {}] = elsewhere.headers;
  assert.deepEqual([authorization, key], [undefined, undefined]);

  const missing = s.server.add(randomBytes(10), layerType);
  elsewhere.misbehave(/./, answer(403, {}, "<Error>presigned</Error>"));
  await assert.rejects(download(s, missing), ({ message }: Error) => {
    assert.match(message, /: 403 Forbidden$/);
    assert.doesNotMatch(message, /presigned/);
    return true;
  });
  const text = told.join("\n");
  assert.match(text, /authorization: Basic REDACTED/);
  assert.doesNotMatch(text, /presigned|topsecret|YWxpOnNlc2FtZQ|sesame/);

  s.server.misbehave(blobs, ({ request, response }) => {
    response.writeHead(302, { location: request.url }).end();
  });
  await assert.rejects(
    download(s, s.server.add("x", layerType)),
    /failed to do request: Get "http:.*": stopped after 10 redirects$/,
  );
  s.server.misbehave(blobs, answer(302, { location: "file:///etc/passwd" }));
  await assert.rejects(download(s, s.server.add("y", layerType)), /unsupported protocol scheme "file"/);
});

test("manifests that are too large are not read", async () => {
  await using s = await stand();
  const head = /^HEAD .*\/manifests\//;
  s.server.misbehave(
    head,
    answer(200, { "content-length": "100000000", "docker-content-digest": `sha256:${"a".repeat(64)}` }),
  );
  await assert.rejects(s.registry.resolve(signal), {
    kind: ErrorKind.NotFound,
    message: `rejecting 100000000 byte manifest for ${s.server.host}/a/b:v1: not found`,
  });
  s.server.misbehave(head, answer(405));
  s.server.misbehave(/^GET .*\/manifests\//, async ({ response, registry }) => {
    response.writeHead(200, { "content-type": manifestType });
    const piece = Buffer.alloc(1024 * 1024);
    while (!response.destroyed) {
      await registry.send(response, piece);
    }
  });
  await assert.rejects(s.registry.resolve(signal), /^FlotillaError: rejecting \d+ byte manifest/);
  assert.ok(s.server.sentBytes < 32 * 1024 * 1024, `${s.server.sentBytes} bytes were sent`);
});

test("a tag without digest or length is read; what old registries give is refused", async () => {
  await using s = await stand();
  const manifest = s.server.add('{"schemaVersion":2}', manifestType);
  s.server.tags.set("v1", manifest.digest);
  const bare =
    (mediaType: string): Act =>
    ({ request, response }) => {
      response.writeHead(200, { "content-type": mediaType });
      response.end(request.method === "HEAD" ? undefined : '{"schemaVersion":2}');
    };
  s.server.misbehave(/manifests/, bare(`${manifestType}; charset=utf-8`));
  assert.deepEqual(await s.registry.resolve(signal), manifest);
  s.server.misbehave(/manifests/, bare("text/plain"));
  await assert.rejects(s.registry.resolve(signal), { kind: ErrorKind.InvalidArgument });
  s.server.misbehave(/manifests/, answer(200, { "docker-content-digest": "sha256:short", "content-length": "3" }));
  await assert.rejects(
    s.registry.resolve(signal),
    /"sha256:short" in header not a valid digest: invalid checksum digest length/,
  );
  const schema1 = {
    mediaType: "application/vnd.docker.distribution.manifest.v1+prettyjws",
    digest: manifest.digest,
    size: 3,
  };
  await assert.rejects(download(s, schema1), /not supported$/);
});

test("twenty downloads of one digest cost one, and all hear how far it is", async () => {
  await using s = await stand();
  const layer = s.server.add(randomBytes(4_000_000), layerType);
  const offsets = Array.from({ length: 20 }, () => new Set<number>());
  const outcomes = await Promise.all(
    offsets.map(async (seen) => {
      const registry = await s.open();
      const onProgress = ({ offset }: { offset: number }): void => void seen.add(offset);
      return registry.download(layer, { content: s.store, labels: {}, onProgress, signal });
    }),
  );
  assert.equal(s.server.count(blobs), 1);
  assert.deepEqual(outcomes.toSorted(), [...Array.from({ length: 19 }, () => "existed"), "fetched"]);
  assert.ok(offsets.every((seen) => seen.size >= 4 && seen.has(layer.size)));
});

test("when the one that downloads is cancelled, the next goes on where it stopped", async () => {
  await using s = await stand();
  const bytes = randomBytes(4_000_000);
  const layer = s.server.add(bytes, layerType);
  s.server.misbehave(blobs, fallSilentAfter(2_000_000), 1);
  const controller = new AbortController();
  const first = s.registry.download(layer, { content: s.store, labels: {}, signal: controller.signal });
  const others = [s.open(), s.open()].map(async (opened) =>
    (await opened).download(layer, { content: s.store, labels: {}, signal }),
  );
  // All but what does not fill a batch is in the store.
  await until(
    async () => (s.store.ingests.get(ingestRef(layer))?.bytes.length ?? 0) >= 1_048_576,
    () => "half of it is there",
    10_000,
  );
  controller.abort();
  await assert.rejects(first, { kind: ErrorKind.Canceled });
  assert.deepEqual((await Promise.all(others)).toSorted(), ["existed", "fetched"]);
  assert.deepEqual(s.store.blobs.get(layer.digest)?.bytes, bytes);
  assert.equal(s.server.count(blobs), 2);
  assert.match(s.server.requests.at(-1) ?? "", / bytes=[12]\d{6}-$/);
});

test("when the transfer that downloads ends, the next goes on", async () => {
  await using s = await stand();
  const layer = s.server.add(randomBytes(2_000_000), layerType);
  s.server.misbehave(blobs, fallSilentAfter(1_500_000), 1);
  const first = await s.open();
  const ended = assert.rejects(first.download(layer, { content: s.store, labels: {}, signal }), {
    kind: ErrorKind.Canceled,
  });
  const following = download(s, layer);
  await until(
    async () => (s.store.ingests.get(ingestRef(layer))?.bytes.length ?? 0) > 0,
    () => "it has begun",
    10_000,
  );
  await first[Symbol.asyncDispose]();
  await ended;
  assert.equal(await following, "fetched");
  assert.equal(s.server.count(blobs), 2);
});

test("a broken registry fails all who wanted the same of it, a refusal only who was refused", async () => {
  await using s = await stand();
  const layer = s.server.add(randomBytes(1000), layerType);
  const start = async (request: Partial<RegistryRequest> = {}): Promise<PromiseSettledResult<DownloadOutcome>[]> => {
    const opened = await Promise.all(Array.from({ length: 5 }, () => s.open(request)));
    return Promise.allSettled(
      opened.map((registry) => registry.download(layer, { content: s.store, labels: {}, signal })),
    );
  };
  s.server.misbehave(blobs, answer(502));
  const broken = await start();
  assert.ok(broken.every(({ status }) => status === "rejected"));
  assert.equal(s.server.count(blobs), 5, "five attempts for all together");

  s.server.misbehave(blobs, ({ serve }) => serve());
  s.server.misbehave(blobs, answer(401, { "www-authenticate": 'Basic realm="x"' }), 2);
  const refused = await start();
  assert.equal(refused.filter(({ status }) => status === "rejected").length, 2);
});

test("a large layer comes by ranges side by side, in order and in bounded memory", async () => {
  await using s = await stand({ concurrentLayerFetchBytes: 100_000, maxConcurrentDownloads: 4 });
  const bytes = randomBytes(2_345_678);
  const layer = s.server.add(bytes, layerType);
  s.store.leave(ingestRef(layer), bytes.subarray(0, 5));
  s.server.misbehave(blobs, cutAfter(30_000), 3);
  assert.equal(await download(s, layer), "fetched");
  assert.deepEqual(s.store.blobs.get(layer.digest)?.bytes, bytes);
  assert.ok(s.server.count(/ bytes=\d+-\d+$/) >= 23);

  const other = s.server.add(bytes.subarray(1), layerType);
  s.server.misbehave(blobs, ignoreRange);
  s.server.requests.length = 0;
  assert.equal(await download(s, other), "fetched");
  assert.equal(s.server.requests.length, 2, "one look at what it does with ranges, and one request for all");
});

test("a slow store slows the registry down, memory does not take the difference", async () => {
  await using s = await stand();
  const layer = s.server.add(randomBytes(64 * 1024 * 1024), layerType);
  s.store.appendMs = 1;
  let aheadMost = 0;
  s.store.onAppend = (ingestBytes) => {
    aheadMost = Math.max(aheadMost, s.server.sentBytes - ingestBytes);
  };
  s.store.appendMs = 5;
  assert.equal(await download(s, layer), "fetched");
  // Two batches of a megabyte, and what the buffers of two sockets hold.
  assert.ok(aheadMost < 24 * 1024 * 1024, `${aheadMost} bytes were under way`);
  assert.ok(s.store.appended.every((size) => size < 2 * 1024 * 1024));
});

test("a store that goes away comes back to what it had", async () => {
  await using s = await stand();
  const bytes = randomBytes(5_000_000);
  const layer = s.server.add(bytes, layerType);
  let failures = 0;
  s.store.onAppend = (ingestBytes) => {
    if (ingestBytes > 1_500_000 && failures < 3) {
      failures += 1;
      throw failure(ErrorKind.Unavailable, "content process is being restarted");
    }
  };
  assert.equal(await download(s, layer), "fetched");
  assert.equal(failures, 3);
  assert.deepEqual(s.store.blobs.get(layer.digest)?.bytes, bytes);
  s.store.onAppend = () => {
    throw failure(ErrorKind.ResourceExhausted, "no space left on device");
  };
  await assert.rejects(download(s, s.server.add(randomBytes(10), layerType)), { kind: ErrorKind.ResourceExhausted });
});

test("an ingest that somebody else writes is waited for as long as it grows", async () => {
  await using s = await stand({ noProgressMs: 300, retryDelayMs: 20 });
  const bytes = randomBytes(1000);
  const layer = s.server.add(bytes, layerType);
  const ref = ingestRef(layer);
  const other = await s.store.openIngest({ ref, expected: layer.digest, totalBytes: layer.size, signal });
  const downloading = download(s, layer);
  for (let start = 0; start < 1000; start += 100) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    await other.append(bytes.subarray(start, start + 100));
  }
  await other.commit({});
  assert.equal(await downloading, "existed");
  assert.equal(s.server.requests.length, 0);

  const stuck = s.server.add(randomBytes(10), layerType);
  await s.store.openIngest({ ref: ingestRef(stuck), expected: stuck.digest, totalBytes: stuck.size, signal });
  await assert.rejects(download(s, stuck), { kind: ErrorKind.Unavailable });
});

test("bodies that a server encodes on the way are decoded", async () => {
  await using s = await stand();
  const bytes = randomBytes(200_000);
  const layer = s.server.add(bytes, layerType);
  s.server.misbehave(blobs, ({ response }) => {
    response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(bytes));
  });
  assert.equal(await download(s, layer), "fetched");
  s.server.misbehave(blobs, answer(200, { "content-encoding": "rot13" }));
  await assert.rejects(download(s, s.server.add("z", layerType)), /unsupported Content-Encoding algorithm: rot13/);
});

test("warnings of the registry reach the client, each once", async () => {
  const warnings: string[] = [];
  await using s = await stand({}, { onWarning: (text) => warnings.push(text) });
  const warn = { warning: '299 - "this \\"repository\\" moves", 199 - "not for you"' };
  s.server.misbehave(/./, answer(404, warn));
  await assert.rejects(s.registry.resolve(signal), { kind: ErrorKind.NotFound });
  await assert.rejects(s.registry.resolve(signal), { kind: ErrorKind.NotFound });
  assert.deepEqual(warnings, ['this "repository" moves']);
});

test("referrers by the API, by the tag that stands in for it, and none", async () => {
  await using s = await stand();
  const subject = s.server.add('{"schemaVersion":2}', manifestType);
  const ask = (...artifactTypes: string[]): Promise<Descriptor[]> =>
    s.registry.referrers(subject.digest, { artifactTypes, signal });
  assert.deepEqual(await ask(), []);
  const signature = { mediaType: manifestType, digest: subject.digest, size: 3, artifactType: "a/sig" };
  const bom = { ...signature, artifactType: "a/bom" };
  const index = s.server.add(
    JSON.stringify({ manifests: [signature, bom] }),
    "application/vnd.oci.image.index.v1+json",
  );
  s.server.tags.set(subject.digest.replace(":", "-"), index.digest);
  assert.deepEqual(await ask(), [signature, bom]);
  assert.deepEqual(await ask("a/bom"), [bom]);
  s.server.misbehave(/\/referrers\//, answer(200, {}, JSON.stringify({ manifests: [bom] })));
  assert.deepEqual(await ask("a/bom"), [bom]);
  assert.ok(s.server.requests.at(-1)?.endsWith("?artifactType=a%2Fbom"));
  s.server.misbehave(/\/referrers\//, answer(200, {}, '{"manifests":[{"digest":"../../etc"}]}'));
  await assert.rejects(ask(), { kind: ErrorKind.InvalidArgument });
});

test("layers that lie elsewhere come from there, without saying who we are", async (t: TestContext) => {
  const credentials = async (): Promise<Credentials> => ({ kind: "password", username: "ali", secret: "sesame" });
  await using s = await stand({}, { credentials, headers: { "x-api-key": "topsecret" } });
  const elsewhere = await HostileRegistry.start();
  t.after(() => elsewhere[Symbol.asyncDispose]());
  const bytes = randomBytes(100_000);
  const layer = elsewhere.add(bytes, layerType);
  const url = `http://${elsewhere.host}/v2/x/blobs/${layer.digest}`;
  assert.equal(await download(s, { ...layer, urls: ["ftp://no", url.replace("/x/", "/y/") + "0", url] }), "fetched");
  assert.equal(s.server.requests.length, 0);
  assert.ok(elsewhere.headers.every((headers) => headers["x-api-key"] === undefined));
});
