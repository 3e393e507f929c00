import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { parseDigest } from "#containerd/digest.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import {
  type LayerProgressSchema,
  LayerState,
  Layers,
  type UnpackRequest,
  type UnpackResponseSchema,
  type UnpackStart,
} from "#gen/flotilla/layers/v1/layers_pb.ts";
import { bindService, type Call, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { ChainSnapshots } from "../ports.ts";
import type { ChainUnpacker } from "./chain-unpacker.ts";
import { LayerBytes } from "./layer-bytes.ts";
import { NewsQueue } from "./news-queue.ts";
import type { ChainOrder, ChainResult, ChainWatch, LayerNews } from "./order.ts";

/** Layers of one image. overlayfs takes no more than 500 lower directories. @source linux fs/overlayfs/params.h `OVL_MAX_STACK` */
const layersMax = 500;

/** What the service needs from the rest of the process. */
export interface LayersServiceParts {
  /**
   * The differ of an id, "" for the default.
   *
   * @throws {@link FlotillaError} when it is not loaded.
   */
  getUnpacker(differ: string): ChainUnpacker;
  /** @throws {@link FlotillaError} `invalid_argument` when the snapshotter is not loaded. */
  getSnapshots(place: {
    readonly snapshotter: string;
    readonly namespace: string;
    readonly lease: string;
  }): ChainSnapshots;
  /** Whether file systems are written out before a snapshot is committed, whatever a caller says. */
  alwaysSyncsFileSystem(): boolean;
  /** See {@link ChainWatch.onLeft}. */
  onLeft(key: string, error: unknown): void;
}

type Answer = MessageInitShape<typeof UnpackResponseSchema>;

/** The private service by which whole chains of layers are unpacked. */
export function layersService(parts: LayersServiceParts): ServiceBinding {
  const handlers: Handlers<typeof Layers> = {
    unpack: (requests, call) => unpack(parts, requests, call),
  };
  return bindService(Layers, handlers);
}

async function* unpack(
  parts: LayersServiceParts,
  requests: AsyncIterable<UnpackRequest>,
  call: Call,
): AsyncGenerator<Answer> {
  // Leaving a `for await` early would end the iterator, and with it the stream that the answers go out on.
  const messages = requests[Symbol.asyncIterator]();
  const first = await messages.next();
  if (first.done === true || first.value.message.case !== "start") {
    throw failure(ErrorKind.InvalidArgument, "the first message must describe the chain");
  }
  const start = first.value.message.value;
  const abandoned = new AbortController();
  const signal = AbortSignal.any([call.signal, abandoned.signal]);
  const bytes = new LayerBytes(
    start.layers.map(({ descriptor, complete }) => ({ digest: descriptor?.digest ?? "", isComplete: complete })),
  );
  const order = readOrder(parts, start, bytes, signal);
  const unpacker = parts.getUnpacker(start.differ);
  void readCompletions(messages, bytes);
  const news = new NewsQueue<Answer>();
  const watch: ChainWatch = {
    onLayer: (index, { chainId, ...layer }) =>
      news.push(
        { message: { case: "layer", value: { index, chainId, ...writeNews(layer) } } },
        layer.state === "applying" ? `applying ${index}` : undefined,
      ),
    onLeft: (key, error) => parts.onLeft(key, error),
  };
  const unpacked = unpacker.unpack(order, watch).finally(() => news.end());
  try {
    yield* news;
    const { chainId, committed }: ChainResult = await unpacked;
    yield { message: { case: "result", value: { chainId, committed } } };
  } finally {
    // Who stops listening early ends the work, and it is waited for until it has cleaned up.
    abandoned.abort(failure(ErrorKind.Canceled, ErrorKind.Canceled));
    await unpacked.catch(() => undefined);
  }
}

/** Reads what the caller says after its first message, to the end of it. */
async function readCompletions(messages: AsyncIterator<UnpackRequest>, bytes: LayerBytes): Promise<void> {
  try {
    for (let next = await messages.next(); next.done !== true; next = await messages.next()) {
      const { message } = next.value;
      if (message.case !== "complete") {
        throw failure(ErrorKind.InvalidArgument, "after the first message only layers can be complete");
      }
      bytes.complete(message.value.index);
    }
    bytes.end();
  } catch (error) {
    bytes.fail(error);
  }
}

function readOrder(parts: LayersServiceParts, start: UnpackStart, bytes: LayerBytes, signal: AbortSignal): ChainOrder {
  const { namespace, lease, snapshotter, layers, labels, sideBySideMax, syncFileSystem, usesNodeKeys } = start;
  validateIdentifier(namespace);
  if (layers.length > layersMax) {
    throw failure(
      ErrorKind.InvalidArgument,
      `${layers.length} layers are more than the ${layersMax} that can be mounted`,
    );
  }
  return {
    owner: { namespace, lease, signal },
    snapshots: parts.getSnapshots({ snapshotter, namespace, lease }),
    layers: layers.map(({ descriptor, diffId }, index) => ({
      mediaType: descriptor?.mediaType ?? "",
      digest: parseDigest(descriptor?.digest ?? ""),
      sizeBytes: Number(descriptor?.size ?? 0n),
      annotations: descriptor?.annotations ?? {},
      diffId: parseDigest(diffId),
      ...bytes.of(index),
    })),
    labels,
    sideBySideMax,
    syncFileSystem: syncFileSystem || parts.alwaysSyncsFileSystem(),
    usesNodeKeys,
  };
}

function writeNews(news: LayerNews): Omit<MessageInitShape<typeof LayerProgressSchema>, "$typeName"> {
  switch (news.state) {
    case "present":
      return { state: LayerState.PRESENT };
    case "needed":
      return { state: LayerState.NEEDED };
    case "applying":
      return { state: LayerState.APPLYING, usedBytes: BigInt(news.usedBytes) };
    default:
      return {
        state: LayerState.COMMITTED,
        usedBytes: BigInt(news.usedBytes),
        size: BigInt(news.sizeBytes),
        elapsed: durationOf(news.elapsedMs),
      };
  }
}

function durationOf(ms: number): { seconds: bigint; nanos: number } {
  const whole = Math.floor(ms / 1000);
  return { seconds: BigInt(whole), nanos: Math.round((ms - whole * 1000) * 1e6) };
}
