import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Daemon } from "../kit/daemon.ts";
import { ctr } from "./daemons.ts";

const removalMsMax = 60_000;
const pollMs = 100;

/** Removes the image and waits until its blobs and snapshots have been collected. */
export async function removeImage(daemon: Daemon, namespace: string, reference: string): Promise<void> {
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
