import { createClient } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { Layers } from "#gen/flotilla/layers/v1/layers_pb.ts";
import { type CriPeers, criCall, criNamespace } from "../peers.ts";
import type { ReadImage } from "./image-reader.ts";

/** How long an image may take to be unpacked, in milliseconds. */
const unpackMsMax = 60 * 60_000;

/**
 * Unpacks an image whose blobs are all here, and makes its configuration hold the snapshots.
 *
 * @param place.lease - Holds what is made until then.
 * @throws {@link FlotillaError} `not_found` when a layer is not here.
 * @source containerd v2.3.4 internal/cri/opts/container.go `unpackImage`
 */
export async function unpackImage(
  peers: CriPeers,
  image: ReadImage,
  {
    snapshotter,
    lease,
    signal,
  }: { readonly snapshotter: string; readonly lease: string; readonly signal: AbortSignal },
): Promise<void> {
  if (image.layers.length !== image.diffIds.length) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `number of layers and diffIDs don't match: ${image.layers.length} != ${image.diffIds.length}`,
    );
  }
  const chainId = await unpackLayers(peers, image, { snapshotter, lease, signal });
  const label = `containerd.io/gc.ref.snapshot.${snapshotter}`;
  await peers.contentRecords.update(
    {
      info: { digest: image.configuration.digest, labels: { [label]: chainId } },
      updateMask: { paths: [`labels.${label}`] },
    },
    criCall({ signal }),
  );
}

async function unpackLayers(
  peers: CriPeers,
  { layers, diffIds }: ReadImage,
  {
    snapshotter,
    lease,
    signal,
  }: { readonly snapshotter: string; readonly lease: string; readonly signal: AbortSignal },
): Promise<string> {
  const start = {
    namespace: criNamespace,
    lease,
    snapshotter,
    layers: layers.map(({ mediaType, digest, size, annotations }, index) => ({
      descriptor: { mediaType, digest, size: BigInt(size), annotations: { ...annotations } },
      diffId: diffIds[index] ?? "",
      complete: true,
    })),
  };
  async function* requests() {
    yield { message: { case: "start" as const, value: start } };
  }
  const client = createClient(Layers, peers.connections.snapshots.transport);
  try {
    for await (const { message } of client.unpack(requests(), { signal, timeoutMs: unpackMsMax })) {
      if (message.case === "result") {
        return message.value.chainId;
      }
    }
  } catch (error) {
    throw wrapFailure(error, "error unpacking image");
  }
  throw failure(ErrorKind.Unavailable, "unpacking ended early");
}
