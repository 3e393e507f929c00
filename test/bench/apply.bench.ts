import { mkdirSync, rmSync } from "node:fs";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Daemon } from "../kit/daemon.ts";
import { bigImage, type TestImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { prepareDrivers } from "./apply-drivers.ts";
import { ctr, startBothOn } from "./daemons.ts";
import { makeFileSystem } from "./file-system.ts";
import type { Bench, Measurement } from "./measurement.ts";
import { say } from "./progress.ts";
import { interleave } from "./rounds.ts";

const wholeImage = { layers: 9, sizeMb: 200, files: 47_000 };
const inodes = 500_000;
/** For each driver. */
const rounds = { max: 5, budgetMs: 40_000 };

/** Layers that are in the content store become snapshots, with each driver: the part of a pull in which nothing is fetched. */
export const applyBench: Bench = {
  name: "apply",
  async run() {
    const namespace = uniqueNamespace();
    await using fileSystem = await makeFileSystem({ inodes });
    await using prepared = await prepareDrivers(fileSystem);
    await using daemons = await startBothOn(fileSystem, prepared.config);
    const measurements: Measurement[] = [];
    for (const { snapshotter, bound, image: size = wholeImage } of prepared.drivers) {
      say(snapshotter);
      const image = await bigImage(size);
      for (const daemon of [daemons.flotilla, daemons.containerd]) {
        await ctr(daemon, "-n", namespace, "images", "import", "--no-unpack", image.tar);
      }
      const results = await interleave(rounds, async (side) => {
        await execa("sync");
        return { applyS: await timeLayers(daemons[side], namespace, image, snapshotter) };
      });
      measurements.push({
        what: `${size.layers} layers with ${size.files.toLocaleString("en")} files to snapshots, ${snapshotter}`,
        unit: "s",
        better: "lower",
        target: { kind: "ratio", bound },
        samples: results.applyS,
      });
    }
    say(`GNU tar: ${(await timeTar(await bigImage(wholeImage), daemons.flotilla.root)).toPrecision(3)} s`);
    return measurements;
  },
};

/** Seconds that a daemon takes for all layers; the snapshots and their files are gone afterwards. */
async function timeLayers(daemon: Daemon, namespace: string, image: TestImage, snapshotter: string): Promise<number> {
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
  // A lease that is ended this way is answered after a collection.
  const leases = createClient(Leases, daemon.transport);
  const { lease } = await leases.create({ id: `bench-${snapshotter}` }, call);
  await leases.delete({ id: lease?.id ?? "", sync: true }, call);
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
