import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Content, WriteAction } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Daemon } from "../kit/daemon.ts";
import { startBoth } from "./daemons.ts";
import { startLoadClient } from "./load.ts";
import type { Bench } from "./measurement.ts";
import { interleave } from "./rounds.ts";

const namespace = "bench";
const rounds = 3;
const images = 200;
const blobsPerImage = 100;
const writersAtOnce = 16;
const walkMs = 2_000;
/** Between two calls of somebody who has nothing to do with the collection. */
const probeMs = 2;

/** 200 images of 100 blobs each: a walk of all blobs, then the deletion of every second image, waited for. */
export const collectionBench: Bench = {
  name: "collection",
  async run() {
    await using daemons = await startBoth();
    await using client = startLoadClient();
    const results = await interleave(rounds, async (side) => {
      const daemon = daemons[side];
      await fillUp(daemon);
      const walks = await client.run({
        address: daemon.address,
        calls: [{ path: "/containerd.services.content.v1.Content/List", messageBase64: "" }],
        namespace,
        inFlight: 1,
        durationMs: walkMs,
        warmUpMs: 500,
      });
      const { collectedS, longestWaitMs } = await collectHalf(daemon);
      return { walkRate: (walks.turns * 1000) / walks.elapsedMs, collectedS, longestWaitMs };
    });
    return [
      {
        what: "walk of 20,000 blobs",
        unit: "walks/s",
        better: "higher",
        target: { kind: "ratio", bound: 1 },
        samples: results.walkRate,
      },
      {
        what: "100 of 200 images with 100 blobs each deleted, the last synchronously",
        unit: "s",
        better: "lower",
        target: { kind: "ratio", bound: 1.5 },
        samples: results.collectedS,
      },
      {
        what: "longest wait of another call meanwhile",
        unit: "ms",
        better: "lower",
        target: { kind: "value", bound: 50 },
        samples: results.longestWaitMs,
      },
    ];
  },
};

function nameOf(image: number): string {
  return `docker.io/library/bench-${image}:latest`;
}

/** Writes the images that are missing, each a manifest that holds its blobs by labels. */
async function fillUp(daemon: Daemon): Promise<void> {
  const client = createClient(Images, daemon.transport);
  const there = await client.list({}, { headers: clientHeaders(namespace) });
  const names = new Set(there.images.map(({ name }) => name));
  const missing = Array.from({ length: images }, (_, index) => index).filter((index) => !names.has(nameOf(index)));
  await Promise.all(
    Array.from({ length: writersAtOnce }, async () => {
      for (let image = missing.pop(); image !== undefined; image = missing.pop()) {
        await writeImage(daemon, image);
      }
    }),
  );
}

/** A lease holds the blobs until the image does. */
async function writeImage(daemon: Daemon, image: number): Promise<void> {
  const leases = createClient(Leases, daemon.transport);
  const { lease } = await leases.create({}, { headers: clientHeaders(namespace) });
  const headers = clientHeaders(namespace, lease?.id);
  const labels: Record<string, string> = {};
  for (let index = 1; index < blobsPerImage; index += 1) {
    const digest = await writeBlob(daemon, headers, `blob ${index} of image ${image}`, {});
    labels[`containerd.io/gc.ref.content.${index}`] = digest;
  }
  const manifest = `manifest of image ${image}`;
  const digest = await writeBlob(daemon, headers, manifest, labels);
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const target = { mediaType, digest, size: BigInt(manifest.length) };
  await createClient(Images, daemon.transport).create({ image: { name: nameOf(image), target } }, { headers });
  await leases.delete({ id: lease?.id ?? "" }, { headers: clientHeaders(namespace) });
}

async function writeBlob(
  daemon: Daemon,
  headers: Record<string, string>,
  text: string,
  labels: Record<string, string>,
): Promise<string> {
  const data = Buffer.from(text);
  const expected = `sha256:${createHash("sha256").update(data).digest("hex")}`;
  const message = { action: WriteAction.COMMIT, ref: expected, data, total: BigInt(data.length), expected, labels };
  const requests = (async function* () {
    yield message;
  })();
  for await (const answer of createClient(Content, daemon.transport).write(requests, { headers })) {
    if (answer.action !== WriteAction.COMMIT) {
      throw new Error("the blob was not committed");
    }
  }
  return expected;
}

async function collectHalf(daemon: Daemon): Promise<{ readonly collectedS: number; readonly longestWaitMs: number }> {
  const client = createClient(Images, daemon.transport);
  const options = { headers: clientHeaders(namespace) };
  const done = new AbortController();
  const longest = probe(daemon, done.signal);
  const startedMs = performance.now();
  for (let image = 0; image < images; image += 2) {
    await client.delete({ name: nameOf(image), sync: image + 2 >= images }, options);
  }
  const collectedS = (performance.now() - startedMs) / 1000;
  done.abort();
  return { collectedS, longestWaitMs: await longest };
}

/** The longest time that a small call took until the signal aborted. */
async function probe(daemon: Daemon, done: AbortSignal): Promise<number> {
  const client = createClient(Namespaces, daemon.transport);
  let longestMs = 0;
  while (!done.aborted) {
    const startedMs = performance.now();
    await client.get({ name: namespace });
    longestMs = Math.max(longestMs, performance.now() - startedMs);
    await delay(probeMs);
  }
  return longestMs;
}
