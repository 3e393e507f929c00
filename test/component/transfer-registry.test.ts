import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import test, { type TestContext } from "node:test";
import { execa } from "execa";
import { digestOf } from "#containerd/digest.ts";
import {
  addDistributionSource,
  distributionSourceLabel,
} from "../../services/transfer/registry/distribution-source.ts";
import type {
  Credentials,
  Descriptor,
  Registry,
  RegistryRequest,
  TransferProgress,
} from "../../services/transfer/registry/ports.ts";
import { parseReference } from "../../services/transfer/registry/reference.ts";
import { Registries } from "../../services/transfer/registry/registry.ts";
import { type Certificate, makeCertificate } from "../kit/certificates.ts";
import { busyboxImage } from "../kit/image.ts";
import { MemoryContentStore } from "../kit/memory-content-store.ts";
import { startRegistry } from "../kit/registry.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { startTokenServer } from "../kit/token-server.ts";

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";
const settings = {
  maxConcurrentDownloads: 3,
  concurrentLayerFetchBytes: 0,
  maxConcurrentUploads: 3,
  noProgressMs: 10_000,
  retryDelayMs: 10,
};
const signal = AbortSignal.timeout(120_000);
/** The bcrypt hash of `sesame`. */
const sesameHash = "$2y$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW";

interface Opened extends Partial<RegistryRequest> {
  readonly reference: string;
}

/** A registry for the time of a test. */
async function open(t: TestContext, request: Opened, overrides: Partial<typeof settings> = {}): Promise<Registry> {
  const registries = new Registries({ ...settings, ...overrides }, "containerd/test");
  const registry = await registries.open({ hostDirectories: [], defaultScheme: "", headers: {}, ...request });
  t.after(() => registry[Symbol.asyncDispose]());
  return registry;
}

/** An image of some layers, in an index, in a store. */
function makeImage(store: MemoryContentStore, layers: readonly Uint8Array[]): Descriptor {
  const config = store.add('{"architecture":"amd64","os":"linux"}', "application/vnd.oci.image.config.v1+json");
  const layerType = "application/vnd.oci.image.layer.v1.tar";
  const manifest = store.add(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config,
      layers: layers.map((layer) => store.add(layer, layerType)),
    }),
    manifestType,
  );
  return store.add(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests: [manifest] }), indexType);
}

/** What a manifest or index names. */
function childrenIn(store: MemoryContentStore): (parent: Descriptor) => Promise<Descriptor[]> {
  return async ({ digest }) => {
    const parsed = JSON.parse(String(store.blobs.get(digest)?.bytes)) as {
      readonly manifests?: Descriptor[];
      readonly config?: Descriptor;
      readonly layers?: Descriptor[];
    };
    return [
      ...(parsed.manifests ?? []),
      ...(parsed.config === undefined ? [] : [parsed.config]),
      ...(parsed.layers ?? []),
    ];
  };
}

/** Brings a descriptor and all below it into a store. */
async function pull(registry: Registry, store: MemoryContentStore, root: Descriptor): Promise<void> {
  await registry.download(root, { content: store, labels: {}, signal });
  if (root.mediaType === manifestType || root.mediaType === indexType) {
    for (const child of await childrenIn(store)(root)) {
      await pull(registry, store, child);
    }
  }
}

async function roundTrip(t: TestContext, request: Opened): Promise<void> {
  const source = new MemoryContentStore();
  const root = makeImage(source, [randomBytes(3_000_000), randomBytes(10)]);
  const registry = await open(t, request);
  await registry.push(root, { content: source, listChildren: childrenIn(source), signal });
  assert.deepEqual(await registry.resolve(signal), root);
  const target = new MemoryContentStore();
  await pull(await open(t, request), target, root);
  assert.deepEqual([...target.blobs.keys()].sort(), [...source.blobs.keys()].sort());
}

test("a plain registry on this machine: what skopeo has pushed is pulled, what we push skopeo reads", async (t) => {
  await using server = await startRegistry();
  const image = await busyboxImage();
  const reference = await server.pushImage(image, "busybox:test");
  const registry = await open(t, { reference });
  const descriptor = await registry.resolve(signal);
  assert.equal(digestOf(await registry.fetchManifest(descriptor, signal)), descriptor.digest);
  const store = new MemoryContentStore();
  await pull(registry, store, descriptor);
  assert.ok(store.blobs.size >= 3);

  const renamed = `${server.host}/other/name:v2`;
  const other = await open(t, { reference: renamed });
  await other.push(descriptor, { content: store, listChildren: childrenIn(store), signal });
  const { stdout } = await execa("skopeo", ["inspect", "--tls-verify=false", "--raw", `docker://${renamed}`], {
    stripFinalNewline: false,
  });
  assert.equal(digestOf(stdout), descriptor.digest);

  const byDigest = await open(t, { reference: `${server.host}/other/name@${descriptor.digest}` });
  assert.deepEqual(await byDigest.resolve(signal), descriptor);
  const missing = await open(t, { reference: `${server.host}/other/name:missing` });
  await assert.rejects(missing.resolve(signal), {
    kind: "not found",
    message: `${server.host}/other/name:missing: not found`,
  });
});

test("a push tells its progress, skips what is there and mounts what another repository has", async (t) => {
  await using server = await startRegistry();
  const store = new MemoryContentStore();
  const root = makeImage(store, [randomBytes(2_000_000)]);
  const push = async (name: string): Promise<string[]> => {
    const told: TransferProgress[] = [];
    const registry = await open(t, { reference: `${server.host}/${name}` });
    await registry.push(root, {
      content: store,
      listChildren: childrenIn(store),
      onProgress: (progress) => told.push(progress),
      signal,
    });
    const ends = told.filter(({ state }) => state !== "active");
    assert.equal(ends.length, 4, "each descriptor ends once");
    assert.ok(ends.every(({ descriptor, offset }) => offset === descriptor.size));
    return ends.map(({ state }) => state);
  };
  assert.deepEqual(await push("a/one:v1"), ["complete", "complete", "complete", "complete"]);
  assert.deepEqual(await push("a/one:v1"), ["existed", "existed", "existed", "existed"]);
  const reference = parseReference(`${server.host}/a/one:v1`);
  for (const blob of store.blobs.values()) {
    blob.labels = { [distributionSourceLabel(reference)]: addDistributionSource("", reference) };
  }
  assert.deepEqual(await push("a/two:v1"), ["mounted", "mounted", "complete", "complete"]);
});

test("Basic: the client is asked once, and a wrong password is told without telling it", async (t) => {
  await using server = await startRegistry({ passwordHashes: { ali: sesameHash } });
  const asked: string[] = [];
  const credentials =
    (secret: string) =>
    async ({ host, reference }: { host: string; reference: string }): Promise<Credentials> => {
      asked.push(`${host} ${reference}`);
      return { kind: "password", username: "ali", secret };
    };
  const reference = `${server.host}/a/b:v1`;
  await roundTrip(t, { reference, credentials: credentials("sesame") });
  assert.deepEqual(asked, [`${server.host} ${reference}`, `${server.host} ${reference}`]);

  const wrong = await open(t, { reference, credentials: credentials("hunter2") });
  await assert.rejects(wrong.resolve(signal), ({ message }: Error) => {
    assert.match(message, /^unexpected status from HEAD request to http:.*\/v2\/a\/b\/manifests\/v1: 401 Unauthorized/);
    assert.doesNotMatch(message, /hunter2|aHVudGVyMg/);
    return true;
  });
  const nobody = await open(t, { reference, credentials: async () => ({ kind: "none" }) });
  await assert.rejects(nobody.resolve(signal), {
    message:
      "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials",
  });
  const header = await open(t, {
    reference,
    credentials: async () => ({ kind: "header", value: `Basic ${Buffer.from("ali:sesame").toString("base64")}` }),
  });
  assert.equal((await header.resolve(signal)).mediaType, indexType);
});

test("tokens: by scope, by POST and by GET, renewed when they have run out", async (t) => {
  await using directory = await makeTemporaryDirectory("token");
  const signer = await makeCertificate(directory.path, "signer");
  for (const lacksPost of [false, true]) {
    await using tokens = await startTokenServer({ signer, users: { ali: "sesame" }, lacksPost });
    await using server = await startRegistry({ token: { ...tokens, certificatePath: signer.certificatePath } });
    const reference = `${server.host}/a/b:v1`;
    const credentials = async (): Promise<Credentials> => ({ kind: "password", username: "ali", secret: "sesame" });
    await roundTrip(t, { reference, credentials });
    const methods = lacksPost ? ["POST", "GET"] : ["POST"];
    const pushing = "repository:a/b:pull repository:a/b:pull,push by ali";
    const pulling = "repository:a/b:pull by ali";
    const wanted = [pushing, pulling, pulling].flatMap((what) => methods.map((method) => `${method} ${what}`));
    assert.deepEqual(tokens.requests, wanted);

    const anonymous = await open(t, { reference });
    assert.equal((await anonymous.resolve(signal)).mediaType, indexType);
    assert.equal(tokens.requests.at(-1), "GET repository:a/b:pull by nobody");
    const store = new MemoryContentStore();
    const root = makeImage(store, []);
    await assert.rejects(
      anonymous.push(root, { content: store, listChildren: childrenIn(store), signal }),
      /push access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed$/,
    );
  }
});

test("a token that has run out is renewed", async (t) => {
  await using directory = await makeTemporaryDirectory("token");
  const signer = await makeCertificate(directory.path, "signer");
  await using tokens = await startTokenServer({ signer, users: {}, lifeSeconds: 1 });
  await using server = await startRegistry({ token: { ...tokens, certificatePath: signer.certificatePath } });
  const registry = await open(t, { reference: `${server.host}/a/b:v1` });
  const count = async (): Promise<number> => {
    await assert.rejects(registry.resolve(signal), { kind: "not found" });
    return tokens.requests.length;
  };
  assert.equal(await count(), 1);
  assert.equal(await count(), 2);
});

test("TLS with an authority of its own, client certificates, and both layouts of certificates", async (t) => {
  await using directory = await makeTemporaryDirectory("tls");
  const own = await makeCertificate(directory.path, "server");
  const client = await makeCertificate(directory.path, "client");
  await using server = await startRegistry({ tls: { ...own, clientAuthorityPath: client.certificatePath } });
  // A name that is not localhost by itself, so that certificates count.
  const reference = `127.0.0.1.nip.invalid:${server.host.split(":")[1]}/a/b:v1`;
  const layouts: Record<string, (path: string, folder: string) => Promise<void>> = {
    toml: (path) =>
      writeFile(
        `${path}/hosts.toml`,
        `server = "https://${server.host}"\nca = "${own.certificatePath}"\nclient = [["${client.certificatePath}", "${client.keyPath}"]]\n`,
      ),
    anonymous: (path) =>
      writeFile(`${path}/hosts.toml`, `server = "https://${server.host}"\nca = "${own.certificatePath}"\n`),
    untrusting: (path) => writeFile(`${path}/hosts.toml`, `server = "https://${server.host}"\n`),
  };
  const folder = async (name: string): Promise<string> => {
    const path = `${directory.path}/${name}/${reference.split("/")[0]?.replace(":", "_")}_`;
    await mkdir(path, { recursive: true });
    await layouts[name]?.(path, name);
    return `${directory.path}/${name}`;
  };
  await roundTrip(t, { reference, hostDirectories: [await folder("toml")] });
  const anonymous = await open(t, { reference, hostDirectories: [await folder("anonymous")] }, { retryDelayMs: 1 });
  await assert.rejects(anonymous.resolve(signal), /certificate required|connection reset|unexpected EOF|alert/);
  const untrusting = await open(t, { reference, hostDirectories: [await folder("untrusting")] });
  await assert.rejects(untrusting.resolve(signal), /x509: certificate signed by unknown authority/);
  await dockerLayout(t, server.host, own, client, directory.path);
});

async function dockerLayout(
  t: TestContext,
  host: string,
  own: Certificate,
  client: Certificate,
  directory: string,
): Promise<void> {
  const path = `${directory}/docker/${host.replace(":", "_")}_`;
  await mkdir(path, { recursive: true });
  await writeFile(`${path}/ca.crt`, await readFile(own.certificatePath));
  await writeFile(`${path}/client.cert`, await readFile(client.certificatePath));
  await writeFile(`${path}/client.key`, await readFile(client.keyPath));
  await roundTrip(t, { reference: `${host}/docker/layout:v1`, hostDirectories: [`${directory}/docker`] });
}

test("plain HTTP is not spoken to a host that is not on this machine unless it is said", async (t) => {
  await using server = await startRegistry();
  await using directory = await makeTemporaryDirectory("plain");
  const reference = "registry.invalid/a/b:v1";
  await mkdir(`${directory.path}/registry.invalid`);
  await writeFile(`${directory.path}/registry.invalid/hosts.toml`, `server = "https://${server.host}"\n`);
  const registry = await open(t, { reference, hostDirectories: [directory.path] });
  await assert.rejects(registry.resolve(signal), /http: server gave HTTP response to HTTPS client$/);
});

test("a mirror that has it is asked alone, one that has not leads to the registry", async (t) => {
  await using upstream = await startRegistry();
  await using mirror = await startRegistry();
  await using directory = await makeTemporaryDirectory("mirror");
  const store = new MemoryContentStore();
  const root = makeImage(store, [randomBytes(1_000_000)]);
  const pushTo = async (host: string): Promise<void> => {
    const registry = await open(t, { reference: `${host}/a/b:v1` });
    await registry.push(root, { content: store, listChildren: childrenIn(store), signal });
  };
  await pushTo(upstream.host);
  await mkdir(`${directory.path}/registry.invalid`);
  const configure = (capabilities: string): Promise<void> =>
    writeFile(
      `${directory.path}/registry.invalid/hosts.toml`,
      `server = "http://${upstream.host}"\n[host."http://${mirror.host}"]\ncapabilities = ${capabilities}\n`,
    );
  await configure('["pull", "resolve"]');
  const exchanged: string[] = [];
  const pullAll = async (): Promise<Set<string>> => {
    exchanged.length = 0;
    const registry = await open(t, {
      reference: "registry.invalid/a/b:v1",
      hostDirectories: [directory.path],
      onExchange: (text) => exchanged.push(text),
    });
    const found = await registry.resolve(signal);
    assert.deepEqual(found, root);
    await pull(registry, new MemoryContentStore(), found);
    return new Set(exchanged.flatMap((text) => /^[A-Z]+ http:\/\/([^/]+)/.exec(text)?.[1] ?? []));
  };
  assert.deepEqual(await pullAll(), new Set([mirror.host, upstream.host]));
  await pushTo(mirror.host);
  assert.deepEqual(await pullAll(), new Set([mirror.host]));
  assert.ok(exchanged.some((text) => text.startsWith("HEAD") && text.includes("?ns=registry.invalid")));
  const missing = await open(t, { reference: "registry.invalid/a/b:v2", hostDirectories: [directory.path] });
  await assert.rejects(missing.resolve(signal), {
    kind: "not found",
    message: `tried ${upstream.host}: registry.invalid/a/b:v2: not found; ${mirror.host}: registry.invalid/a/b:v2: not found`,
  });
  // A mirror that may not say what a name stands for still has the bytes.
  await configure('["pull"]');
  assert.deepEqual(await pullAll(), new Set([mirror.host, upstream.host]));
  assert.ok(exchanged.every((text) => !text.startsWith("GET") || text.startsWith(`GET http://${mirror.host}/`)));
});
