import assert from "node:assert/strict";
import { createCipheriv, generateKeyPairSync, publicEncrypt, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { digestOf } from "#containerd/digest.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { ImageService } from "#gen/runtime/v1/api_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Descriptor } from "../../services/transfer/registry/ports.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { dawdle, HostileRegistry } from "../kit/hostile-registry.ts";
import { busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { until } from "../kit/processes.ts";
import { type Registry, startRegistry } from "../kit/registry.ts";
import { packTar } from "../kit/tar.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";

/** What the kubelet does with images, from a registry on this machine. */

/**
 * Decrypts a layer, as `ctd-decoder` of imgcrypt does with other ways to wrap keys: the layer's own key comes wrapped for that of this machine, in the
 * descriptor that is told on descriptor 3.
 */
const decoder = `
import { createDecipheriv, privateDecrypt } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
const payload = readFileSync(3, "latin1");
const { Descriptor } = JSON.parse(payload.slice(payload.indexOf("{")));
const file = process.argv[process.argv.indexOf("--decryption-keys-path") + 1] + "/key.pem";
if (!existsSync(file)) {
  process.stderr.write("no key for this layer");
  process.exit(1);
}
const wrapped = Buffer.from(Descriptor.annotations["org.opencontainers.image.enc.keys.test"], "base64");
const opened = privateDecrypt(readFileSync(file), wrapped);
process.stdin.pipe(createDecipheriv("aes-256-ctr", opened.subarray(0, 32), opened.subarray(32))).pipe(process.stdout);
`;
const keys = generateKeyPairSync("rsa", { modulusLength: 2048 });

let decryption: TemporaryDirectory;
let leaks: LeakSnapshot;
let registry: Registry;
let busybox: TestImage;
let daemon: Daemon;
let reference: string;

before(async () => {
  leaks = await snapshotLeaks();
  registry = await startRegistry();
  busybox = await busyboxImage();
  reference = await registry.pushImage(busybox, "busybox:kubelet");
  decryption = await makeTemporaryDirectory("decrypt");
  const { path } = decryption;
  await mkdir(`${path}/keys`);
  await writeFile(`${path}/keys/key.pem`, keys.privateKey.export({ type: "pkcs8", format: "pem" }));
  await writeFile(`${path}/decoder.mjs`, decoder);
  daemon = await startFlotilla({
    cri: true,
    config: `
[plugins."io.containerd.cri.v1.images"]
  max_concurrent_downloads = 2
[stream_processors."io.containerd.ocicrypt.decoder.v1.tar.gzip"]
  accepts = ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted"]
  returns = "application/vnd.oci.image.layer.v1.tar+gzip"
  path = "${process.execPath}"
  args = ["${path}/decoder.mjs", "--decryption-keys-path", "${path}/keys"]
`,
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await decryption?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** Names layers and an image of them `many:latest`. */
function tagImage(server: HostileRegistry, layers: readonly Descriptor[], diffIds: readonly string[]): void {
  const { architecture } = hostPlatform();
  const document = { architecture, os: "linux", config: {}, rootfs: { type: "layers", diff_ids: diffIds } };
  const config = server.add(JSON.stringify(document), "application/vnd.oci.image.config.v1+json");
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = { schemaVersion: 2, mediaType, config, layers };
  server.tags.set("latest", server.add(JSON.stringify(manifest), mediaType).digest);
}

const images = () => createClient(ImageService, daemon.transport);
const statusOf = async (image: string) => (await images().imageStatus({ image: { image } })).image;

test("a pulled image is known by its id, its tag, its digest and the beginning of its id", async () => {
  const { imageRef } = await images().pullImage({ image: { image: reference } });
  assert.match(imageRef, /^sha256:[0-9a-f]{64}$/);
  const image = await statusOf(reference);
  assert.equal(image?.id, imageRef);
  assert.deepEqual(image?.repoTags, [reference]);
  assert.equal(image?.repoDigests.length, 1);
  assert.ok((image?.size ?? 0n) > 100_000n);
  assert.equal(image?.pinned, false);
  for (const name of [imageRef, imageRef.slice(0, 20), imageRef.slice(7, 30), image?.repoDigests[0] ?? ""]) {
    assert.equal((await statusOf(name))?.id, imageRef, name);
  }
  assert.equal(await statusOf("docker.io/library/nothing:1"), undefined);
  const { info } = await images().imageStatus({ image: { image: reference }, verbose: true });
  const verbose = JSON.parse(info["info"] ?? "{}") as { chainID: string; imageSpec: { config: { Cmd: string[] } } };
  assert.match(verbose.chainID, /^sha256:/);
  assert.deepEqual(verbose.imageSpec.config.Cmd, ["sh"]);
  const { images: listed } = await images().listImages({});
  assert.deepEqual(
    listed.map(({ id }) => id),
    [imageRef],
  );
  const streamed = [];
  for await (const piece of images().streamImages({})) {
    streamed.push(...piece.images);
  }
  assert.deepEqual(streamed, listed);
});

test("images outlive the process, and what others bring becomes the kubelet's", async () => {
  await images().pullImage({ image: { image: reference } });
  await daemon.kill9("cri");
  await until(
    () =>
      images()
        .listImages({})
        .then(
          () => true,
          () => false,
        ),
    () => "the kubelet is not answered",
    20_000,
  );
  assert.equal((await statusOf(reference))?.repoTags[0], reference);
  const records = createClient(Images, daemon.transport);
  const call = { headers: clientHeaders("k8s.io") };
  const { image } = await records.get({ name: reference }, call);
  assert.equal(image?.labels["io.cri-containerd.image"], "managed");
  const other = "docker.io/library/other:1";
  await records.create({ image: { name: other, target: image?.target } }, call);
  await until(
    async () => (await statusOf(other)) !== undefined,
    () => "the image is not seen",
    20_000,
  );
  assert.equal((await records.get({ name: other }, call)).image?.labels["io.cri-containerd.image"], "managed");
  await records.delete({ name: other }, call);
  await until(
    async () => !((await statusOf(reference))?.repoTags.includes(other) ?? false),
    () => "the name is still there",
    20_000,
  );
});

test("removing an image by any of its names removes it whole, and again is no error", async () => {
  const { imageRef } = await images().pullImage({ image: { image: reference } });
  await images().removeImage({ image: { image: imageRef.slice(0, 24) } });
  assert.equal(await statusOf(reference), undefined);
  assert.deepEqual((await images().listImages({})).images, []);
  const { images: records } = await createClient(Images, daemon.transport).list(
    {},
    { headers: clientHeaders("k8s.io") },
  );
  assert.deepEqual(records, []);
  await images().removeImage({ image: { image: imageRef } });
});

test("no more of an image is fetched at a time than max_concurrent_downloads says", async () => {
  await using server = await HostileRegistry.start();
  const layers = Array.from({ length: 5 }, (_one, index) => Buffer.alloc(1024 + 512 * index));
  tagImage(
    server,
    layers.map((layer) => server.add(layer, "application/vnd.oci.image.layer.v1.tar")),
    layers.map((layer) => digestOf(layer)),
  );
  let underWay = 0;
  let most = 0;
  server.misbehave(/^GET .*\/blobs\//, async ({ serve }) => {
    underWay += 1;
    most = Math.max(most, underWay);
    // All that would come at once has come by then.
    await delay(300);
    await serve();
    underWay -= 1;
  });
  await images().pullImage({ image: { image: `${server.host}/many:latest` } });
  assert.equal(server.count(/^GET .*\/blobs\//), 6);
  assert.equal(most, 2);
});

test("an image whose layers are encrypted is decrypted with keys of this machine", async () => {
  await using server = await HostileRegistry.start();
  const { stdout: layer } = await execa("tar", ["--create", "--file=-", "--directory=/etc", "hostname"], {
    encoding: "buffer",
  });
  const zipped = gzipSync(layer);
  const [secret, start] = [randomBytes(32), randomBytes(16)];
  const cipher = createCipheriv("aes-256-ctr", secret, start);
  const descriptor = server.add(
    Buffer.concat([cipher.update(zipped), cipher.final()]),
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
  );
  const wrapped = publicEncrypt(keys.publicKey, Buffer.concat([secret, start])).toString("base64");
  const annotations = { "org.opencontainers.image.enc.keys.test": wrapped };
  tagImage(server, [{ ...descriptor, annotations }], [digestOf(layer)]);
  const pull = () => images().pullImage({ image: { image: `${server.host}/many:latest` } });
  await rename(`${decryption.path}/keys/key.pem`, `${decryption.path}/key.pem`);
  await assert.rejects(pull(), /no key for this layer/);
  await rename(`${decryption.path}/key.pem`, `${decryption.path}/keys/key.pem`);
  const { imageRef } = await pull();
  assert.match(imageRef, /^sha256:/);
  const { stdout: unpacked } = await execa("find", [
    `${daemon.root}/io.containerd.snapshotter.v1.overlayfs/snapshots`,
    "-path",
    "*/fs/hostname",
  ]);
  assert.equal(await readFile(unpacked, "utf8"), await readFile("/etc/hostname", "utf8"));
});

test("the kubelet is told what images take", async () => {
  await images().pullImage({ image: { image: reference } });
  await until(
    async () => ((await images().imageFsInfo({})).imageFilesystems[0]?.usedBytes?.value ?? 0n) > 0n,
    () => "nothing is measured",
    30_000,
  );
  const [filesystem] = (await images().imageFsInfo({})).imageFilesystems;
  assert.equal(filesystem?.fsId?.mountpoint, `${daemon.root}/io.containerd.snapshotter.v1.overlayfs`);
});

test("a pull that can't be tells why", async () => {
  const pull = (image: string) => images().pullImage({ image: { image } });
  await assert.rejects(
    pull("not a name"),
    (error) => isFailure(error) && error.message.startsWith('failed to parse image reference "not a name"'),
  );
  await assert.rejects(
    pull(`${registry.host}/busybox:missing`),
    (error) =>
      isFailure(error, ErrorKind.NotFound) &&
      error.message.startsWith(`failed to pull and unpack image "${registry.host}/busybox:missing"`),
  );
});

test("a pull goes on when the process dies that brings the image, or the one that was asked", async () => {
  await using server = await HostileRegistry.start();
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  for (const victim of ["transfer", "cri"] as const) {
    const content = packTar([{ path: victim, type: "file", mode: 0o644, content: randomBytes(4 * 1024 * 1024) }]);
    const layer = server.add(content, "application/vnd.oci.image.layer.v1.tar");
    const { os, architecture } = hostPlatform();
    const rootfs = { type: "layers", diff_ids: [layer.digest] };
    const config = server.add(
      JSON.stringify({ os, architecture, config: {}, rootfs }),
      "application/vnd.oci.image.config.v1+json",
    );
    const manifest = JSON.stringify({ schemaVersion: 2, mediaType, config, layers: [layer] });
    server.tags.set(victim, server.add(manifest, mediaType).digest);
    const ofLayer = new RegExp(`GET .*${layer.digest}`);
    server.misbehave(ofLayer, dawdle(128 * 1024, 20), 1);
    const pulled = images().pullImage({ image: { image: `${server.host}/dying:${victim}` } });
    pulled.catch(() => undefined);
    await until(
      () => server.count(ofLayer) > 0,
      () => "nothing is fetched",
      30_000,
    );
    await delay(200);
    await daemon.kill9(victim);
    assert.equal((await pulled).imageRef, config.digest);
    assert.equal((await statusOf(config.digest))?.id, config.digest);
  }
});
