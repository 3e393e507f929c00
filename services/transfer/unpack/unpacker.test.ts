import assert from "node:assert/strict";
import test from "node:test";
import { createClient, createRouterTransport } from "@connectrpc/connect";
import { hostPlatform } from "#config/host-platform.ts";
import { digestOf } from "#containerd/digest.ts";
import { onlyOperatingSystem, platformFrom } from "#containerd/platform.ts";
import { Layers, type UnpackStart } from "#gen/flotilla/layers/v1/layers_pb.ts";
import { ImageUnpacker } from "./unpacker.ts";

const ociType = (name: string): string => `application/vnd.oci.image.${name}`;
const config = Buffer.from(JSON.stringify({ os: "linux", rootfs: { type: "layers", diff_ids: [digestOf("diff")] } }));
const descriptor = (mediaType: string, bytes: Uint8Array | string) => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
});

/** Unpacks an image of one layer, and gives what the snapshots process was told. */
async function startOf(syncsFileSystem: boolean): Promise<UnpackStart | undefined> {
  let start: UnpackStart | undefined;
  const transport = createRouterTransport(({ service }) => {
    service(Layers, {
      async *unpack(requests) {
        for await (const { message } of requests) {
          start = message.case === "start" ? message.value : start;
          yield { message: { case: "result" as const, value: { chainId: digestOf("chain") } } };
        }
      },
    });
  });
  const unpacker = new ImageUnpacker({
    layers: createClient(Layers, transport),
    caller: { namespace: "default", lease: "" },
    content: { readDocument: () => Promise.resolve(config), setLabels: () => Promise.resolve() },
    targets: [
      {
        matcher: onlyOperatingSystem(platformFrom(hostPlatform())),
        snapshotter: "overlayfs",
        differ: "",
        configType: "",
        layerTypes: [],
        wantsRemoteLabels: false,
      },
    ],
    imageName: "docker.io/library/one:1",
    sideBySideMax: 0,
    syncsFileSystem,
    usesNodeKeys: false,
    tracker: undefined,
    signal: AbortSignal.timeout(10_000),
  });
  await unpacker.unpack({
    manifest: descriptor(ociType("manifest.v1+json"), "manifest"),
    config: descriptor(ociType("config.v1+json"), config),
    layers: [descriptor(ociType("layer.v1.tar"), "layer")],
  });
  return start;
}

test("whether layers are written out before they are committed is up to whoever asks for the image", async () => {
  assert.equal((await startOf(true))?.syncFileSystem, true);
  assert.equal((await startOf(false))?.syncFileSystem, false);
});
