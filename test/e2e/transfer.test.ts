import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { gzip, zstdCompress } from "node:zlib";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { hostPlatform } from "#config/host-platform.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { type Registry, startRegistry } from "../kit/registry.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { TransferClient, type TransferOutcome } from "../kit/transfer-client.ts";

let daemon: Daemon;
let registry: Registry;
let directory: TemporaryDirectory;
let leaks: LeakSnapshot;
let busybox: TestImage;
let reference: string;

const unpacks = [{ platform: hostPlatform() }];
const prefix = (name: string) => ({ name, isPrefix: true, allowOverwrite: true });

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("transfer");
  busybox = await busyboxImage();
  registry = await startRegistry();
  reference = await registry.pushImage(busybox, "busybox:test");
  daemon = await startFlotilla();
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

test("a pull brings, labels, unpacks and records an image, tells so, and leaves no lease", async () => {
  const namespace = uniqueNamespace();
  const { events } = await clientOf(namespace).pull(reference, { unpacks, labels: { mine: "yes" } });
  const manifest = busybox.manifest.digest;
  const [layer] = busybox.layers;
  assert.deepEqual(await imagesOf(namespace), { [reference]: { digest: manifest, labels: { mine: "yes" } } });
  const blobs = await labelsOf(namespace);
  const source = { "containerd.io/distribution.source.127.0.0.1": "busybox" };
  const config = blobs[manifest]?.["containerd.io/gc.ref.content.config"] ?? "";
  assert.deepEqual(blobs, {
    [manifest]: {
      ...source,
      "containerd.io/gc.ref.content.config": config,
      "containerd.io/gc.ref.content.l.0": layer?.digest,
    },
    [config]: { ...source, "containerd.io/gc.ref.snapshot.overlayfs": busybox.diffIds[0] },
    [layer?.digest ?? ""]: { ...source, "containerd.io/uncompressed": busybox.diffIds[0] },
  });
  assert.deepEqual(await leasesOf(namespace), []);
  const ran = await daemon.ctr("-n", namespace, "run", "--rm", reference, "pulled", "echo", "inside");
  assert.deepEqual([ran.exitCode, ran.stdout], [0, "inside\n"]);

  const shown = `OCI Registry (${reference})`;
  const whole = events.filter(({ name }) => name === "").map(({ event }) => event);
  assert.deepEqual(whole, [`Resolving from ${shown}`, `Pulling from ${shown}`, `Completed pull from ${shown}`]);
  assert.deepEqual(stepsOf({ events }, `layer-${layer?.digest}`), ["waiting", "complete", "extracted"]);
  assert.deepEqual(stepsOf({ events }, `config-${config}`), ["waiting", "complete"]);
  assert.deepEqual(stepsOf({ events }, reference), ["fetching image content", "saved"]);
  assert.deepEqual(events.find(({ name }) => name === `manifest-${manifest}`)?.parents, [reference]);
  assert.deepEqual(events.find(({ name }) => name === `layer-${layer?.digest}`)?.parents, [`manifest-${manifest}`]);

  const again = await clientOf(namespace).pull(reference, { unpacks });
  assert.deepEqual(stepsOf(again, `manifest-${manifest}`).at(-1), "already exists");
});

test("an image is pushed whole, and is the same for others", async () => {
  const namespace = uniqueNamespace();
  const client = clientOf(namespace);
  await client.import(busybox.tar, { extraReferences: [prefix("imported")] });
  const target = `${registry.host}/pushed/busybox:1`;
  const pushed = await client.push(busybox.name, target);
  const name = `manifest-test@${busybox.manifest.digest}`;
  assert.deepEqual(stepsOf(pushed, name).toSorted(), ["complete", "complete", "waiting"]);
  assert.deepEqual(stepsOf(pushed, busybox.name), ["pushing content", "pushed content"]);
  const { stdout } = await execa("skopeo", ["inspect", "--raw", "--tls-verify=false", `docker://${target}`]);
  assert.equal(stdout.length, busybox.manifest.size);
  const repeated = await client.push(busybox.name, target);
  assert.equal(stepsOf(repeated, name).at(-1), "already exists");
  await assert.rejects(client.push("nobody", target), { message: 'image "nobody": not found' });
});

test("archives of each kind come in under the names that are asked for", async () => {
  const docker = `${directory.path}/docker.tar`;
  await execa("skopeo", ["copy", `oci:${busybox.layout}:test`, `docker-archive:${docker}:busybox:docker`]);
  const plain = await readFile(docker);
  const archives: [string, Uint8Array, string][] = [
    ["oci", await readFile(busybox.tar), busybox.name],
    ["docker", plain, "docker.io/library/busybox:docker"],
    ["docker.gz", await promisify(gzip)(plain), "docker.io/library/busybox:docker"],
    ["docker.zst", await promisify(zstdCompress)(plain), "docker.io/library/busybox:docker"],
  ];
  for (const [kind, bytes, name] of archives) {
    const namespace = uniqueNamespace();
    const { events } = await clientOf(namespace).import(bytes, { unpacks, extraReferences: [prefix("p")] });
    assert.deepEqual(Object.keys(await imagesOf(namespace)), [name], kind);
    assert.deepEqual(
      events.map(({ event, name: about }) => (about === "" ? event : `${event} ${about}`)),
      ["Importing", `saved ${name}`, "Completed import"],
    );
    const ran = await daemon.ctr("-n", namespace, "run", "--rm", name, "imported", "echo", kind);
    assert.equal(ran.stdout, `${kind}\n`);
    assert.deepEqual(await leasesOf(namespace), []);
  }
  const namespace = uniqueNamespace();
  const rule = { name: "docker.io/library/other", isPrefix: true };
  await clientOf(namespace).import(plain, {
    name: "whole",
    extraReferences: [{ ...rule, addDigest: true }, { name: "x" }],
  });
  const names = Object.keys(await imagesOf(namespace)).map((name) => name.replace(/sha256:.*/, ""));
  assert.deepEqual(names.toSorted(), ["docker.io/library/other@", "docker.io/library/other@", "whole", "x"]);
  const compressed = uniqueNamespace();
  await clientOf(compressed).import(plain, { extraReferences: [prefix("p")] }, { forceCompress: true });
  const labels = Object.values(await labelsOf(compressed));
  assert.ok(labels.some((each) => each["containerd.io/uncompressed"] === busybox.diffIds[0]));
});

test("an export is the same each time, and everybody reads it", async () => {
  const namespace = uniqueNamespace();
  const client = clientOf(namespace);
  await client.import(busybox.tar, { extraReferences: [prefix("p")] });
  await client.tag(busybox.name, "docker.io/library/second:2");
  const names = [busybox.name, "docker.io/library/second:2"];
  const first = await client.export(names);
  assert.ok(first.equals(await client.export(names)));
  const path = `${directory.path}/export.tar`;
  await writeFile(path, first);
  const { stdout } = await execa("skopeo", ["inspect", "--raw", `docker-archive:${path}:busybox:test`]);
  assert.match(stdout, new RegExp(busybox.diffIds[0] ?? "none"));
  const elsewhere = uniqueNamespace();
  await clientOf(elsewhere).import(first, { extraReferences: [prefix("p")] });
  assert.deepEqual(
    Object.entries(await imagesOf(elsewhere)).map(([name, { digest }]) => [name, digest]),
    names.map((name) => [name, busybox.manifest.digest]),
  );
  const without = await client.export([busybox.name], { skipCompatibilityManifest: true });
  assert.ok(first.includes("manifest.json") && !without.includes("manifest.json"));
  await assert.rejects(client.export(["nobody"]), { message: 'image "nobody": not found' });
});

function clientOf(namespace: string): TransferClient {
  return new TransferClient(daemon.transport, namespace);
}

/** What was told of one thing, without bytes. */
function stepsOf({ events }: TransferOutcome, name: string): string[] {
  const ticks = ["downloading", "uploading", "extracting"];
  return events.filter((event) => event.name === name && !ticks.includes(event.event)).map(({ event }) => event);
}

async function imagesOf(namespace: string) {
  const { images } = await createClient(Images, daemon.transport).list({}, { headers: clientHeaders(namespace) });
  return Object.fromEntries(images.map(({ name, labels, target }) => [name, { digest: target?.digest, labels }]));
}

async function labelsOf(namespace: string): Promise<Record<string, Record<string, string>>> {
  const lists = createClient(Content, daemon.transport).list({}, { headers: clientHeaders(namespace) });
  const infos = (await Array.fromAsync(lists)).flatMap(({ info }) => info);
  return Object.fromEntries(infos.map(({ digest, labels }) => [digest, labels]));
}

async function leasesOf(namespace: string): Promise<string[]> {
  const { leases } = await createClient(Leases, daemon.transport).list({}, { headers: clientHeaders(namespace) });
  return leases.map(({ id }) => id);
}
