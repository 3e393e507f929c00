import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Daemon } from "../kit/daemon.ts";
import { bigImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { startRegistry } from "../kit/registry.ts";
import { ctr, startBoth } from "./daemons.ts";
import type { Bench } from "./measurement.ts";
import { say } from "./progress.ts";
import { interleave } from "./rounds.ts";

const rounds = 3;
const pullMsMax = 300_000;
const removalMsMax = 60_000;
const pollMs = 100;

/** A large image from a registry on this machine, with Debian's `ctr`, until it is unpacked. */
export const pullBench: Bench = {
  name: "pull",
  async run() {
    const namespace = uniqueNamespace();
    say("making the image");
    const image = await bigImage({ layers: 9, sizeMb: 200, files: 47_000 });
    await using registry = await startRegistry();
    const reference = await registry.pushImage(image, "bench/big:test");
    await using daemons = await startBoth();
    const results = await interleave(rounds, async (side) => {
      const daemon = daemons[side];
      // What the round before wrote must not be written out in the time of this one.
      await execa("sync");
      const startedMs = performance.now();
      const args = ["-a", daemon.address, "-n", namespace, "images", "pull", "--plain-http", reference];
      await execa("ctr", args, { stdin: "ignore", stdout: "ignore", timeout: pullMsMax });
      const pullS = (performance.now() - startedMs) / 1000;
      await removeAll(daemon, namespace, reference);
      return { pullS };
    });
    return [
      {
        what: "pull + unpack of 200 MB, 9 layers, 47,000 files",
        unit: "s",
        better: "lower",
        target: { kind: "ratio", bound: 0.5 },
        samples: results.pullS,
      },
    ];
  },
};

/** Removes the image and waits until its blobs and snapshots have been collected. */
async function removeAll(daemon: Daemon, namespace: string, reference: string): Promise<void> {
  await ctr(daemon, "-n", namespace, "images", "rm", "--sync", reference);
  for (const deadline = performance.now() + removalMsMax; (await countLeft(daemon, namespace)) > 0; ) {
    if (performance.now() > deadline) {
      throw new Error("the image was not collected");
    }
    await delay(pollMs);
  }
}

async function countLeft(daemon: Daemon, namespace: string): Promise<number> {
  const options = { headers: clientHeaders(namespace) };
  let count = 0;
  for await (const { info } of createClient(Content, daemon.transport).list({}, options)) {
    count += info.length;
  }
  for await (const { info } of createClient(Snapshots, daemon.transport).list({ snapshotter: "overlayfs" }, options)) {
    count += info.length;
  }
  return count;
}
