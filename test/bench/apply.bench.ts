import { mkdirSync, rmSync } from "node:fs";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Daemon } from "../kit/daemon.ts";
import { bigImage, type TestImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { ctr, startBothApart } from "./daemons.ts";
import type { Bench } from "./measurement.ts";
import { say } from "./progress.ts";
import { interleave } from "./rounds.ts";

const rounds = 3;

/** Layers that are in the content store become snapshots: the part of a pull in which nothing is fetched. */
export const applyBench: Bench = {
  name: "apply",
  async run() {
    const namespace = uniqueNamespace();
    say("making the image");
    const image = await bigImage({ layers: 9, sizeMb: 200, files: 47_000 });
    await using daemons = await startBothApart();
    for (const daemon of [daemons.flotilla, daemons.containerd]) {
      await ctr(daemon, "-n", namespace, "images", "import", "--no-unpack", image.tar);
    }
    const results = await interleave(rounds, async (side) => {
      await execa("sync");
      return { applyS: await timeLayers(daemons[side], namespace, image, "overlayfs") };
    });
    say(`GNU tar: ${(await timeTar(image, daemons.flotilla.root)).toPrecision(3)} s`);
    return [
      {
        what: "layers of that image to snapshots",
        unit: "s",
        better: "lower",
        target: { kind: "ratio", bound: 0.5 },
        samples: results.applyS,
      },
    ];
  },
};

/** Seconds that a daemon takes for all layers; the snapshots are gone afterwards. */
export async function timeLayers(
  daemon: Daemon,
  namespace: string,
  image: TestImage,
  snapshotter: string,
): Promise<number> {
  const snapshots = createClient(Snapshots, daemon.transport);
  const diff = createClient(Diff, daemon.transport);
  const call = { headers: clientHeaders(namespace) };
  const labels = { "containerd.io/gc.root": "bench" };
  const names: string[] = [];
  const startedMs = performance.now();
  for (const { mediaType, digest, size } of image.layers) {
    const key = `extract-${digest}`;
    const parent = names.at(-1) ?? "";
    const { mounts } = await snapshots.prepare({ snapshotter, key, parent, labels }, call);
    await diff.apply({ diff: { mediaType, digest, size: BigInt(size) }, mounts }, call);
    const name = `layer-${digest}`;
    await snapshots.commit({ snapshotter, name, key, labels }, call);
    names.push(name);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  for (const key of names.reverse()) {
    await snapshots.remove({ snapshotter, key }, call);
  }
  return seconds;
}

/** Seconds that GNU tar takes for the same layers, each in a directory of its own, one after the other. */
async function timeTar(image: TestImage, directory: string): Promise<number> {
  const root = `${directory}/bench-tar`;
  await execa("sync");
  const startedMs = performance.now();
  for (const [index, { digest }] of image.layers.entries()) {
    mkdirSync(`${root}/${index}`, { recursive: true });
    const blob = `${image.layout}/blobs/${digest.replace(":", "/")}`;
    await execa("tar", ["-C", `${root}/${index}`, "--numeric-owner", "-xpzf", blob]);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  rmSync(root, { recursive: true });
  return seconds;
}
