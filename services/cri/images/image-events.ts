import { setTimeout as delay } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import type { Logger } from "#fleet/log.ts";
import {
  ImageCreateSchema,
  ImageDeleteSchema,
  ImageUpdateSchema,
} from "#gen/containerd/services/images/v1/images_pb.ts";
import { type CriPeers, criCall, criNamespace } from "../peers.ts";
import type { ImageStore } from "./image-store.ts";

/** The wait before events are asked for again, in milliseconds. */
const retryMs = 1_000;
/** How long a subscription may take to hold, in milliseconds. */
const settleMs = 500;

const schemas = [ImageCreateSchema, ImageUpdateSchema, ImageDeleteSchema];

/**
 * Follows what others do with images of the kubelet's namespace until the process stops. Never rejects.
 *
 * Once events are heard, and whenever they were not for a while, all that may have changed is taken in, so that nothing is missed.
 *
 * @source containerd v2.3.4 internal/cri/server/events.go `HandleEvent`
 */
export async function followImages(
  store: ImageStore,
  peers: CriPeers,
  { log, stopping }: { readonly log: Logger; readonly stopping: AbortSignal },
): Promise<void> {
  while (!stopping.aborted) {
    try {
      await hearEvents(store, peers, { log, stopping });
    } catch (error) {
      if (!stopping.aborted) {
        log.debug({ err: error }, "events of images are not heard");
      }
    }
    await delay(retryMs, undefined, { signal: stopping, ref: false }).catch(() => undefined);
  }
}

async function hearEvents(
  store: ImageStore,
  peers: CriPeers,
  { log, stopping }: { readonly log: Logger; readonly stopping: AbortSignal },
): Promise<void> {
  const broken = new AbortController();
  const signal = AbortSignal.any([stopping, broken.signal]);
  const filters = [`namespace==${criNamespace},topic~="^/images/"`];
  const events = peers.events.subscribe({ filters }, criCall({ signal, timeoutMs: Number.POSITIVE_INFINITY }));
  const missed = delay(settleMs, undefined, { signal, ref: false }).then(() => store.load(signal));
  missed.catch((error: unknown) => broken.abort(error));
  try {
    for await (const { event } of events) {
      const name = imageName(event);
      if (name !== "") {
        await store.refresh(name, signal).catch((error: unknown) => {
          signal.throwIfAborted();
          log.warn({ ref: name, err: error }, "an image is not taken in");
        });
      }
    }
  } finally {
    broken.abort();
    await missed.catch(() => undefined);
  }
}

function imageName(event: Any | undefined): string {
  const schema = schemas.find(({ typeName }) => typeName === event?.typeUrl.split("/").at(-1));
  return schema === undefined || event === undefined ? "" : fromBinary(schema, event.value).name;
}
