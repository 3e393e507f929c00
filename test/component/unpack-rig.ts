import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import type { TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import { PluginSettings } from "#config/settings.ts";
import { type Digest, digestOf } from "#containerd/digest.ts";
import { SnapshotKind } from "#gen/flotilla/index/v1/index_pb.ts";
import {
  type ImageLayerSchema,
  LayerState,
  Layers,
  type UnpackRequestSchema,
  type UnpackStartSchema,
} from "#gen/flotilla/layers/v1/layers_pb.ts";
import { withTemporaryMount } from "#linux/temporary-mount.ts";
import { connectRpc } from "#wire/client.ts";
import { serveRpc } from "#wire/server.ts";
import { openChainSnapshots } from "../../services/snapshots/chain-snapshots.ts";
import { getSnapshotter, Snapshotter } from "../../services/snapshots/domain/snapshotter.ts";
import { nativeDriver } from "../../services/snapshots/drivers/native/driver.ts";
import { overlayDriver } from "../../services/snapshots/drivers/overlayfs/driver.ts";
import { connectSnapshotIndex } from "../../services/snapshots/index-client.ts";
import { chainIdsOf } from "../../services/snapshots/layers/chains/chain-id.ts";
import { ChainUnpacker } from "../../services/snapshots/layers/chains/chain-unpacker.ts";
import { layersService } from "../../services/snapshots/layers/chains/layers-service.ts";
import { Differ } from "../../services/snapshots/layers/differ.ts";
import type { BlobStore, LayerWorkers } from "../../services/snapshots/layers/ports.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { TreeThreads } from "../../services/snapshots/threads/tree-threads.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { MemorySnapshotIndex } from "./snapshots-index.ts";

/** Namespace of all calls. */
export const namespace = "unpack-test";

/** A layer of a test, as it is in the content store. */
export interface StoredLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly sizeBytes: number;
}

/** What a call of Unpack has told. */
export interface Unpacked {
  /** `<index> <state>` in order, states of progress once. */
  readonly told: string[];
  readonly chainId: string;
  readonly committed: number;
  /** Uncompressed size by layer, of those committed. */
  readonly sizes: Map<number, bigint>;
}

/** The snapshots process without its process: real drivers and layers, records and blobs of the test's own. */
export class UnpackRig {
  readonly path: string;
  readonly index: MemorySnapshotIndex;
  readonly layers: Client<typeof Layers>;
  /** Labels that blobs were given. */
  readonly labels = new Map<string, Record<string, string>>();
  /** Active snapshots that could not be removed. */
  readonly left: string[] = [];
  /** The setting `sync_fs`. */
  syncsFileSystem = false;
  /** After what file systems were to be written out, in order: `layer in ROOT`, `directories in ROOT`. */
  readonly writtenOut: string[] = [];
  readonly snapshotters = new Map<string, Snapshotter>();

  private constructor(path: string, index: MemorySnapshotIndex, layers: Client<typeof Layers>) {
    this.path = path;
    this.index = index;
    this.layers = layers;
  }

  static async open(context: TestContext): Promise<UnpackRig> {
    const resources = new AsyncDisposableStack();
    context.after(() => resources.disposeAsync());
    const { path } = resources.use(await makeTemporaryDirectory("unpack"));
    mkdirSync(`${path}/blobs`);
    const memory = new MemorySnapshotIndex();
    const serve = async (name: string, services: Parameters<typeof serveRpc>[0]["services"]): Promise<string> => {
      const socketPath = `${path}/${name}.sock`;
      const server = await serveRpc({ socketPath, services });
      resources.defer(() => server.close(0));
      return socketPath;
    };
    const connect = (socketPath: string): ReturnType<typeof connectRpc> =>
      resources.adopt(connectRpc(socketPath), (connection) => connection.close());
    const index = connectSnapshotIndex(connect(await serve("index", memory.bindings())));
    const trees = resources.use(new TreeThreads());
    const threads = resources.use(new LayerThreads());
    const workers: LayerWorkers = {
      prepare: (layers) => threads.prepare(layers),
      apply: (job, ...rest) => {
        rig.writtenOut.push(...(job.syncFileSystem ? [`layer in ${job.target.root}`] : []));
        return threads.apply(job, ...rest);
      },
      adopt: (job, signal) => {
        rig.writtenOut.push(...(job.syncFileSystem ? [`directories in ${job.root}`] : []));
        return threads.adopt(job, signal);
      },
      makeImage: (...job) => threads.makeImage(...job),
      compare: (job, signal) => threads.compare(job, signal),
    };
    const layers = createClient(Layers, connect(`${path}/layers.sock`).transport);
    const rig = new UnpackRig(path, memory, layers);
    for (const [definition, settings] of [
      [overlayDriver, { root_path: "", slow_chown: false, sync_remove: false, mount_options: [] }],
      [nativeDriver, { root_path: "" }],
    ] as const) {
      const root = `${path}/${definition.manifest.id}`;
      const driver = await definition.open({ root, settings: new PluginSettings(settings, [], []), trees });
      const watch = { onRecordLeft: () => undefined, onRemovalFailed: () => undefined };
      rig.snapshotters.set(definition.manifest.id, new Snapshotter(definition.manifest.id, driver, index, watch));
    }
    const blobs = rig.#blobs();
    const differ = new Differ({
      blobs,
      threads: workers,
      mounts: { withActivated: (mounts, use) => use(mounts) },
      limits: { entriesMax: 0, depthMax: 0, ratioMax: 0 },
      temporaryMounts: `${path}/mounts`,
      programs: new Map(),
    });
    const unpacker = new ChainUnpacker({ differ, blobs, workers });
    await serve("layers", [
      layersService({
        getUnpacker: () => unpacker,
        getSnapshots: ({ snapshotter, ...owner }) =>
          openChainSnapshots(getSnapshotter(rig.snapshotters, snapshotter), owner),
        alwaysSyncsFileSystem: () => rig.syncsFileSystem,
        onLeft: (key) => rig.left.push(key),
      }),
    ]);
    return rig;
  }

  /** Puts a layer into the content store, compressed, and describes it. */
  put(archive: Buffer, options: { readonly stored?: boolean } = {}): StoredLayer {
    const blob = gzipSync(archive, { level: 1 });
    const digest = digestOf(blob);
    if (options.stored !== false) {
      this.store(blob);
    }
    return { digest, diffId: digestOf(archive), sizeBytes: blob.length };
  }

  /** Puts bytes into the content store. */
  store(blob: Buffer): void {
    writeFileSync(`${this.path}/blobs/${digestOf(blob)}`, blob);
  }

  /** Unpacks layers that are all in the content store. */
  unpack(
    layers: readonly StoredLayer[],
    options: Partial<MessageInitShape<typeof UnpackStartSchema>> = {},
    signal?: AbortSignal,
  ): Promise<Unpacked> {
    return this.call(
      [
        startOf(
          layers.map((layer) => describe(layer)),
          options,
        ),
      ],
      signal,
    );
  }

  /** Makes the call with given messages, and reads it to its end. */
  async call(
    messages:
      | AsyncIterable<MessageInitShape<typeof UnpackRequestSchema>>
      | MessageInitShape<typeof UnpackRequestSchema>[],
    signal?: AbortSignal,
    onTold: (told: string) => void = () => undefined,
  ): Promise<Unpacked> {
    const told: string[] = [];
    const sizes = new Map<number, bigint>();
    let result = { chainId: "", committed: -1 };
    const requests = Symbol.asyncIterator in messages ? messages : streamOf(messages);
    for await (const { message } of this.layers.unpack(requests, signal === undefined ? {} : { signal })) {
      if (message.case === "result") {
        result = message.value;
      } else if (message.case === "layer") {
        const { index, state, size } = message.value;
        const text = `${index} ${stateNames.get(state)}`;
        if (!told.includes(text)) {
          told.push(text);
          onTold(text);
        }
        if (text.endsWith(" committed")) {
          sizes.set(index, size);
        }
      }
    }
    return { told, sizes, chainId: result.chainId, committed: result.committed };
  }

  /** Names of the committed snapshots, by chain order of their ids. */
  committed(snapshotter = "overlayfs"): string[] {
    return this.#named(snapshotter, (kind) => kind === SnapshotKind.COMMITTED);
  }

  /** Keys of snapshots that are not committed. */
  active(snapshotter = "overlayfs"): string[] {
    return this.#named(snapshotter, (kind) => kind !== SnapshotKind.COMMITTED);
  }

  /** Shows the file system of a committed snapshot. */
  async show<T>(name: string, use: (root: string) => T, snapshotter = "overlayfs"): Promise<T> {
    const mounts = await getSnapshotter(this.snapshotters, snapshotter).viewCommitted({
      namespace,
      snapshotter,
      key: name,
    });
    return await withTemporaryMount(mounts, `${this.path}/shown`, use);
  }

  /** Numbers of the directories on disk. */
  directories(snapshotter = "overlayfs"): string[] {
    return readdirSync(`${this.path}/${snapshotter}/snapshots`);
  }

  #named(snapshotter: string, matches: (kind: SnapshotKind) => boolean): string[] {
    return [...this.index.snapshots]
      .filter(([key, { kind }]) => key.startsWith(`${snapshotter}/`) && matches(kind))
      .map(([key]) => key.slice(snapshotter.length + 1));
  }

  #blobs(): BlobStore {
    return {
      locate: (_owner, digest) =>
        readdirSync(`${this.path}/blobs`).includes(digest)
          ? Promise.resolve(`${this.path}/blobs/${digest}`)
          : Promise.reject(failure(ErrorKind.NotFound, `content digest ${digest}`)),
      write: () => Promise.reject(new Error("nothing is written here")),
      abort: () => Promise.resolve(),
      setLabel: (_owner, digest, key, value) => {
        this.labels.set(digest, { ...this.labels.get(digest), [key]: value });
        return Promise.resolve();
      },
      addLabel: () => Promise.reject(new Error("nothing is written here")),
    };
  }
}

const stateNames = new Map<number, string>(
  Object.entries(LayerState).map(([name, state]) => [state, name.toLowerCase()]),
);

/** A layer as a caller describes it, with its bytes there. */
export function describe(
  { digest, diffId, sizeBytes }: StoredLayer,
  annotations: Record<string, string> = {},
): MessageInitShape<typeof ImageLayerSchema> {
  const mediaType = "application/vnd.oci.image.layer.v1.tar+gzip";
  return { descriptor: { mediaType, digest, size: BigInt(sizeBytes), annotations }, diffId, complete: true };
}

/** The first message of a call. */
export function startOf(
  layers: MessageInitShape<typeof ImageLayerSchema>[],
  options: Partial<MessageInitShape<typeof UnpackStartSchema>> = {},
): MessageInitShape<typeof UnpackRequestSchema> {
  return {
    message: {
      case: "start",
      value: { namespace, lease: "some-lease", snapshotter: "overlayfs", layers, ...options },
    } as MessageInitShape<typeof UnpackRequestSchema>["message"],
  } as MessageInitShape<typeof UnpackRequestSchema>;
}

/** A message that says that the bytes of a layer are there. */
export function completeOf(index: number): MessageInitShape<typeof UnpackRequestSchema> {
  return { message: { case: "complete", value: { index } } };
}

/** The names of the snapshots of layers. */
export function chainOf(layers: readonly StoredLayer[]): Digest[] {
  return chainIdsOf(layers.map(({ diffId }) => diffId));
}

async function* streamOf<T>(values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}
