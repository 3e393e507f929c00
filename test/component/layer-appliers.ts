import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { type Client, createClient } from "@connectrpc/connect";
import { errorMessage } from "#base/errors.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Diff } from "#gen/containerd/services/diff/v1/diff_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { WriteCall } from "../conformance/write-call.ts";
import type { Daemon } from "../kit/daemon.ts";
import { applyFile } from "./layer-rig.ts";

/** Where a layer goes: a whole file system, or the upper directory of an overlay with one directory below. */
export interface Place {
  readonly root: string;
  readonly lower?: string;
}

/** Something that makes a file system of a layer. @returns why it did not, or undefined. */
export type Applier = (layer: Buffer, place: Place) => Promise<string | undefined> | string | undefined;

/** Ours. @param scratch - A file for the layer. */
export function ourApplier(threads: LayerThreads, scratch: string): Applier {
  return async (layer, { root, lower }) => {
    writeFileSync(scratch, layer);
    try {
      const lowers = lower === undefined ? [] : [lower];
      await applyFile(threads, scratch, { root, whiteouts: lower === undefined ? "remove" : "overlay", lowers });
      return undefined;
    } catch (error) {
      return errorMessage(error);
    }
  };
}

/** GNU tar, as root and with all that an archive tells. Any complaint counts, since it goes on after some. */
export const tarApplier: Applier = (layer, { root }) => {
  const options = ["--numeric-owner", "--same-owner", "-p", "--xattrs", "--xattrs-include=*", "--acls"];
  const { stderr, status } = spawnSync("tar", [...options, "-C", root, "-xf", "-"], { input: layer, encoding: "utf8" });
  return status === 0 && stderr === "" ? undefined : stderr;
};

const namespace = "corpus";

/** A containerd, by its Diff service. */
export function containerdApplier(daemon: Daemon): Applier {
  const content = createClient(Content, daemon.transport);
  const diff = createClient(Diff, daemon.transport);
  return async (layer, { root, lower }) => {
    const digest = await store(content, layer);
    const mount =
      lower === undefined
        ? { type: "bind", source: root, options: ["rw", "rbind"] }
        : {
            type: "overlay",
            source: "overlay",
            options: [`workdir=${workOf(root)}`, `upperdir=${root}`, `lowerdir=${lower}`],
          };
    try {
      const mediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip";
      const headers = clientHeaders(namespace);
      await diff.apply({ diff: { mediaType, digest, size: BigInt(layer.length) }, mounts: [mount] }, { headers });
      return undefined;
    } catch (error) {
      return errorMessage(error);
    }
  };
}

/** The work directory that an overlay with this upper directory has, made when missing. */
export function workOf(upper: string): string {
  const path = `${upper}-work`;
  mkdirSync(path, { recursive: true });
  return path;
}

async function store(content: Client<typeof Content>, layer: Buffer): Promise<string> {
  const expected = `sha256:${createHash("sha256").update(layer).digest("hex")}`;
  const call = new WriteCall(content, { namespace });
  try {
    const status = await call.stat({ ref: expected, total: BigInt(layer.length), expected });
    await call.commit({ data: layer, offset: status.offset, expected, total: BigInt(layer.length) });
  } catch (error) {
    if (!errorMessage(error).includes("already exists")) {
      throw error;
    }
  }
  return expected;
}
