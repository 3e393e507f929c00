import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { digestOf } from "#containerd/digest.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { findInconsistencies } from "../kit/check.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { dawdle, fallSilentAfter, HostileRegistry } from "../kit/hostile-registry.ts";
import { busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { packTar, type TarEntry } from "../kit/tar.ts";
import { TransferClient } from "../kit/transfer-client.ts";

let daemon: Daemon;
let registry: HostileRegistry;
let leaks: LeakSnapshot;
let busybox: TestImage;

/** Enough for several messages to the content store. */
const randomBytesMax = 8 * 1024 * 1024;
/** Far more than a busy machine takes to start the process and to fetch a layer. */
const fetchMsMax = 60_000;
const unpacks = [{ platform: hostPlatform() }];
const launcher = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));

before(async () => {
  leaks = await snapshotLeaks();
  busybox = await busyboxImage();
  registry = await HostileRegistry.start();
  daemon = await startFlotilla();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/**
 * Puts busybox below a layer of random bytes into the registry, so that no other test has it.
 *
 * @returns the reference, and the digest of the random layer.
 */
async function offerImage(name: string): Promise<{ readonly reference: string; readonly layer: string }> {
  const random = packTar([{ path: "random", type: "file", mode: 0o644, content: randomBytes(randomBytesMax) }]);
  const [base] = busybox.layers;
  assert.ok(base !== undefined);
  registry.add(await readFile(`${busybox.layout}/blobs/sha256/${base.digest.slice(7)}`), base.mediaType);
  const layer = registry.add(random, "application/vnd.oci.image.layer.v1.tar");
  const { os, architecture } = hostPlatform();
  const diffIds = [...busybox.diffIds, layer.digest];
  const config = registry.add(
    JSON.stringify({ os, architecture, rootfs: { type: "layers", diff_ids: diffIds }, config: { Env: ["PATH=/bin"] } }),
    "application/vnd.oci.image.config.v1+json",
  );
  const manifest = { schemaVersion: 2, mediaType: busybox.manifest.mediaType, config, layers: [base, layer] };
  registry.tags.set(name, registry.add(JSON.stringify(manifest), manifest.mediaType).digest);
  return { reference: `${registry.host}/library/busybox:${name}`, layer: layer.digest };
}

test("kill -9 of transfer amid a pull: the client notices nothing, and the pull goes on where it stopped", async () => {
  const namespace = uniqueNamespace();
  const client = new TransferClient(daemon.transport, namespace);
  const { reference, layer } = await offerImage("killed");
  registry.misbehave(new RegExp(`GET .*${layer}`), fallSilentAfter(randomBytesMax / 2), 1);
  const pull = client.pull(reference, { unpacks });
  pull.catch(() => undefined);
  const layerIngest = async () => (await ingestsOf(namespace)).find(({ ref }) => ref.includes(layer));
  await until(
    async () => ((await layerIngest())?.offset ?? 0n) > 0n,
    () => "no byte of the layer arrives",
    fetchMsMax,
  );
  await daemon.kill9("transfer");
  await pull;
  const [first, second, ...further] = registry.requests
    .filter((line) => line.includes(layer))
    .map((line) => line.split(" ")[2]);
  assert.deepEqual([first, further], [undefined, []]);
  assert.match(second ?? "", /^bytes=[1-9]\d*-$/);
  const ran = await daemon.ctr("-n", namespace, "run", "--rm", reference, "survived", "echo", "whole");
  assert.equal(ran.stdout, "whole\n");
  assert.deepEqual(await findInconsistencies(daemon, { namespace }), []);
});

test("collections at every moment of a pull and an import take nothing of them", async () => {
  const namespace = uniqueNamespace();
  const client = new TransferClient(daemon.transport, namespace);
  const { reference, layer } = await offerImage("collected");
  registry.misbehave(new RegExp(`GET .*${layer}`), dawdle(256 * 1024, 20), 1);
  const over = new AbortController();
  let collections = 0;
  const collecting = (async () => {
    while (!over.signal.aborted) {
      await collectGarbage(namespace);
      collections += 1;
    }
  })();
  try {
    await client.pull(reference, { unpacks });
    await client.import(busybox.tar, {
      unpacks,
      extraReferences: [{ name: "p", isPrefix: true, allowOverwrite: true }],
    });
  } finally {
    over.abort();
    await collecting;
  }
  assert.ok(collections > 3, `only ${collections} collections`);
  await collectGarbage(namespace);
  for (const image of [reference, busybox.name]) {
    const ran = await daemon.ctr("-n", namespace, "run", "--rm", image, "kept", "echo", image);
    assert.equal(ran.stdout, `${image}\n`, ran.stderr);
  }
  assert.match((await client.export([reference])).toString("latin1"), /oci-layout/);
  assert.deepEqual(await findInconsistencies(daemon, { namespace }), []);
});

test("a client that gives up leaves nothing behind, and has the image when it asks again", async () => {
  const namespace = uniqueNamespace();
  const client = new TransferClient(daemon.transport, namespace);
  const { reference, layer } = await offerImage("given-up");
  registry.misbehave(new RegExp(`GET .*${layer}`), fallSilentAfter(1000), 1);
  const controller = new AbortController();
  const pull = client.pull(reference, { unpacks }, controller.signal);
  // The silence is for this pull: the next one gets an answer.
  await until(
    () => registry.count(new RegExp(`GET .*${layer}`)) > 0,
    () => "the layer is not asked for",
    fetchMsMax,
  );
  controller.abort();
  await assert.rejects(pull);
  await assertNothingLeft(namespace);
  await client.pull(reference, { unpacks });
});

test("flotilla transfers shows who pulls and who waits, and ends one of them for another to go on", async () => {
  const flotilla = (...args: string[]) =>
    execa(launcher, ["--root", daemon.root, "--state", daemon.state, "transfers", ...args]);
  const listed = async () => JSON.parse((await flotilla("--json")).stdout) as { id: number; waitingClients: number }[];
  const { reference, layer } = await offerImage("watched");
  registry.misbehave(new RegExp(`GET .*${layer}`), fallSilentAfter(randomBytesMax / 2), 1);
  const clients = [0, 1].map(() => new TransferClient(daemon.transport, uniqueNamespace()));
  const pulls = clients.map((client) => client.pull(reference, { unpacks }));
  const ends = Promise.allSettled(pulls);
  // They wait for each other's manifest and first layer as well, but not for long.
  await until(
    () => registry.count(new RegExp(`GET .*${layer}`)) > 0,
    () => "the layer is not asked for",
    fetchMsMax,
  );
  let shown = await listed();
  await until(
    async () => {
      shown = await listed();
      return shown.some(({ waitingClients }) => waitingClients === 1);
    },
    () => "nobody waits",
    fetchMsMax,
  );
  const leader = shown.find(({ waitingClients }) => waitingClients === 1);
  assert.deepEqual(new Set(shown.map(({ waitingClients }) => waitingClients)), new Set([0, 1]));
  assert.equal(shown.length, 2);
  const { stdout } = await flotilla();
  assert.match(
    stdout,
    new RegExp(`^ID +NAMESPACE .*\\n(.* pull +[\\d.]+ MiB of [\\d.]+ MiB .* ${reference}(\\n|$)){2}`),
  );
  await flotilla("cancel", String(leader?.id));
  const outcomes = await ends;
  const failures = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
  assert.deepEqual(
    failures.map((error) => isFailure(error, ErrorKind.Canceled)),
    [true],
  );
  assert.equal((await flotilla()).stdout, "none");
});

test("archives that are none, are cut short or lie are refused, and leave nothing", async () => {
  const namespace = uniqueNamespace();
  const client = new TransferClient(daemon.transport, namespace);
  const file = (path: string, content: string | Uint8Array): TarEntry => ({
    path,
    type: "file",
    mode: 0o644,
    content: Buffer.from(content),
  });
  const layout = file("oci-layout", '{"imageLayoutVersion":"1.0.0"}');
  const index = (digest: string, size = 1): TarEntry =>
    file(
      "index.json",
      JSON.stringify({ manifests: [{ mediaType: "application/vnd.oci.image.manifest.v1+json", digest, size }] }),
    );
  const whole = await readFile(busybox.tar);
  const dockerManifest = (Config: string, Layers: string[]): TarEntry =>
    file("manifest.json", JSON.stringify([{ Config, Layers, RepoTags: ["../../etc/passwd:1"] }]));
  const cases: [string, Uint8Array, RegExp][] = [
    ["noise", randomBytes(5000), /archive\/tar: invalid tar header/],
    ["nothing", Buffer.alloc(0), /unrecognized image format/],
    ["cut", whole.subarray(0, whole.length - 300_000), /unexpected EOF/],
    ["no index", packTar([layout]), /missing index\.json in OCI layout 1\.0\.0/],
    ["another version", packTar([file("oci-layout", '{"imageLayoutVersion":"9"}')]), /unsupported OCI version 9/],
    ["no JSON", packTar([file("manifest.json", "{")]), /untar manifest "manifest\.json"/],
    [
      "a lie",
      packTar([file(`blobs/sha256/${"0".repeat(64)}`, "x")]),
      /unexpected commit digest .*, expected sha256:0000/,
    ],
    ["no manifest", packTar([layout, index(digestOf("gone"))]), /not found/],
    ["a path as digest", packTar([layout, index("../../../etc/passwd")]), /refers to something without a digest/],
    ["empty", packTar([layout, file("index.json", '{"manifests":[]}')]), /image might be filtered out/],
    ["no config", packTar([dockerManifest("c", [])]), /image config "c" not found/],
    [
      "no layer",
      packTar([file("c", "{}"), dockerManifest("c", ["../l"])]),
      /failed to resolve layers: layer "\.\.\/l" not found/,
    ],
    ["no name", packTar([file("c", "{}"), dockerManifest("c", [])]), /normalize image ref/],
    [
      "a link to nowhere",
      packTar([{ path: "l", type: "symlink", mode: 0o777, target: "/etc/passwd" }, file("manifest.json", "[]")]),
      /no target for symlink layer from "l" to "etc\/passwd"/,
    ],
    ["broken gzip", Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), randomBytes(500)]), /./],
  ];
  for (const [what, bytes, message] of cases) {
    const importing = client.import(bytes, { extraReferences: [{ name: "p", isPrefix: true, allowOverwrite: true }] });
    await assert.rejects(importing, { message }, what);
  }
  await assertNothingLeft(namespace);
});

async function collectGarbage(namespace: string): Promise<void> {
  const leases = createClient(Leases, daemon.transport);
  const { lease } = await leases.create({}, { headers: clientHeaders(namespace) });
  await leases.delete({ id: lease?.id ?? "", sync: true }, { headers: clientHeaders(namespace) });
}

async function ingestsOf(namespace: string) {
  const content = createClient(Content, daemon.transport);
  return (await content.listStatuses({}, { headers: clientHeaders(namespace) })).statuses;
}

/** No lease, no ingest and no blob, once the collector has been. */
async function assertNothingLeft(namespace: string): Promise<void> {
  const headers = clientHeaders(namespace);
  const content = createClient(Content, daemon.transport);
  await until(
    async () => (await createClient(Leases, daemon.transport).list({}, { headers })).leases.length === 0,
    () => "a lease stays",
  );
  await collectGarbage(namespace);
  assert.deepEqual(await ingestsOf(namespace), []);
  assert.deepEqual(
    (await Array.fromAsync(content.list({}, { headers }))).flatMap(({ info }) => info),
    [],
  );
}
