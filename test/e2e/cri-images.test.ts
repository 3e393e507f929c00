import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { hostPlatform } from "#config/host-platform.ts";
import { digestOf } from "#containerd/digest.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { ImageService } from "#gen/runtime/v1/api_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { dawdle, HostileRegistry } from "../kit/hostile-registry.ts";
import { busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { until } from "../kit/processes.ts";
import { type Registry, startRegistry } from "../kit/registry.ts";
import { packTar } from "../kit/tar.ts";

/** What the kubelet does with images, from a registry on this machine. */

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
  daemon = await startFlotilla({
    cri: true,
    config: `[plugins."io.containerd.cri.v1.images"]\n  max_concurrent_downloads = 2\n`,
  });
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

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
  const config = server.add(
    JSON.stringify({
      architecture: hostPlatform().architecture,
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: layers.map((layer) => digestOf(layer)) },
    }),
    "application/vnd.oci.image.config.v1+json",
  );
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config,
    layers: layers.map((layer) => server.add(layer, "application/vnd.oci.image.layer.v1.tar")),
  };
  server.tags.set("latest", server.add(JSON.stringify(manifest), mediaType).digest);
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
