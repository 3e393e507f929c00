import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { wallClock } from "#base/times.ts";
import { PluginSettings } from "#config/settings.ts";
import { type Digest, digestOf } from "#containerd/digest.ts";
import { Kind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { withTemporaryMount } from "#linux/temporary-mount.ts";
import { connectRpc } from "#wire/client.ts";
import { serveRpc } from "#wire/server.ts";
import { snapshotIndexService } from "../../services/metadata/rpc/snapshot-index.ts";
import { snapshotInfoService } from "../../services/metadata/rpc/snapshot-info.ts";
import { openStores, type Stores } from "../../services/metadata/stores.ts";
import { openChainSnapshots } from "../../services/snapshots/chain-snapshots.ts";
import { Snapshotter } from "../../services/snapshots/domain/snapshotter.ts";
import { nativeDriver } from "../../services/snapshots/drivers/native/driver.ts";
import { overlayDriver } from "../../services/snapshots/drivers/overlayfs/driver.ts";
import { connectSnapshotIndex } from "../../services/snapshots/index-client.ts";
import { chainIdsOf } from "../../services/snapshots/layers/chains/chain-id.ts";
import { ChainUnpacker } from "../../services/snapshots/layers/chains/chain-unpacker.ts";
import { Differ } from "../../services/snapshots/layers/differ.ts";
import { type RepairedSnapshotter, reconcileSnapshots } from "../../services/snapshots/reconcile.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { TreeThreads } from "../../services/snapshots/threads/tree-threads.ts";
import { describeTree } from "../kit/tree.ts";

const namespace = "power";
const drivers = [
  [overlayDriver, { root_path: "", slow_chown: false, sync_remove: false, mount_options: [] }],
  [nativeDriver, { root_path: "" }],
] as const;

/** Threads that all stores of a test share. */
export interface StoreThreads {
  readonly trees: TreeThreads;
  readonly layers: LayerThreads;
}

/** Where a store keeps what. */
export interface StorePlaces {
  /** Of the records. */
  readonly records: string;
  /** Of the snapshots. */
  readonly snapshots: string;
  /** Of what need not last: sockets, blobs and mounts. */
  readonly scratch: string;
}

/** The records and the snapshots of a daemon, started as its processes start them, in one process. */
export class StoredSnapshots implements AsyncDisposable {
  /** What the start found and put right. */
  readonly repaired: readonly RepairedSnapshotter[];
  readonly stores: Stores;
  readonly #places: StorePlaces;
  readonly #threads: StoreThreads;
  readonly #snapshotters: ReadonlyMap<string, Snapshotter>;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    opened: { readonly stores: Stores; readonly repaired: readonly RepairedSnapshotter[] },
    places: StorePlaces,
    threads: StoreThreads,
    snapshotters: ReadonlyMap<string, Snapshotter>,
    resources: AsyncDisposableStack,
  ) {
    this.stores = opened.stores;
    this.repaired = opened.repaired;
    this.#places = places;
    this.#threads = threads;
    this.#snapshotters = snapshotters;
    this.#resources = resources;
  }

  static async open(places: StorePlaces, threads: StoreThreads): Promise<StoredSnapshots> {
    await using resources = new AsyncDisposableStack();
    const stores = openStores({
      path: `${places.records}/meta.db`,
      policy: "shared",
      durable: true,
      clock: wallClock,
    });
    resources.defer(() => {
      stores.records.database.close();
    });
    const socketPath = `${places.scratch}/index.sock`;
    const server = await serveRpc({
      socketPath,
      services: [
        snapshotIndexService(stores.snapshots, stores.snapshotters, stores.proxiedSnapshots),
        snapshotInfoService(stores.snapshots, stores.snapshotters, () => Promise.resolve()),
      ],
    });
    resources.defer(() => server.close(0));
    const index = connectSnapshotIndex(resources.adopt(connectRpc(socketPath), (connection) => connection.close()));
    const snapshotters = new Map<string, Snapshotter>();
    for (const [definition, settings] of drivers) {
      const name = definition.manifest.id;
      const driver = await definition.open({
        root: `${places.snapshots}/${name}`,
        settings: new PluginSettings(settings, [], []),
        trees: threads.trees,
      });
      const watch = { onRecordLeft: () => undefined, onRemovalFailed: () => undefined };
      snapshotters.set(name, new Snapshotter(name, driver, index, watch));
    }
    const repaired = await reconcileSnapshots(snapshotters, [], index);
    return new StoredSnapshots({ stores, repaired }, places, threads, snapshotters, resources.move());
  }

  /** Names of the snapshots that layers become, lowest first. */
  static namesOf(layers: readonly Buffer[]): Digest[] {
    return chainIdsOf(layers.map((layer) => digestOf(layer)));
  }

  /** Unpacks layers, each written out before it is committed. @param onCommitted - Told when that is answered. */
  async unpack(snapshotter: string, layers: readonly Buffer[], onCommitted: (name: string) => void): Promise<void> {
    const { scratch } = this.#places;
    mkdirSync(`${scratch}/blobs`, { recursive: true });
    for (const layer of layers) {
      writeFileSync(`${scratch}/blobs/${digestOf(layer)}`, layer);
    }
    const unused = (): Promise<never> => Promise.reject(new Error("nothing is written here"));
    const blobs = {
      locate: (_owner: unknown, digest: string) => Promise.resolve(`${scratch}/blobs/${digest}`),
      setLabel: () => Promise.resolve(),
      addLabel: () => Promise.resolve(),
      write: unused,
      abort: unused,
    };
    const workers = this.#threads.layers;
    const differ = new Differ({
      blobs,
      threads: workers,
      mounts: { withActivated: (mounts, use) => use(mounts) },
      limits: { entriesMax: 0, depthMax: 0, ratioMax: 0 },
      temporaryMounts: `${scratch}/mounts`,
      programs: new Map(),
    });
    const owner = { namespace, lease: "", signal: new AbortController().signal };
    await new ChainUnpacker({ differ, blobs, workers }).unpack(
      {
        owner,
        snapshots: openChainSnapshots(this.#get(snapshotter), owner),
        layers: layers.map((layer) => ({
          mediaType: "application/vnd.oci.image.layer.v1.tar",
          digest: digestOf(layer),
          diffId: digestOf(layer),
          sizeBytes: layer.length,
          annotations: {},
          isComplete: () => true,
          bytes: Promise.resolve(),
        })),
        labels: {},
        sideBySideMax: 0,
        syncFileSystem: true,
        usesNodeKeys: false,
      },
      {
        onLayer: (_index, { state, chainId }) => {
          if (state === "committed") {
            onCommitted(chainId);
          }
        },
        onLeft: (key) => assert.fail(key),
      },
    );
  }

  /** Removes a snapshot and, as the collector does, its directories. */
  async remove(snapshotter: string, key: string): Promise<void> {
    const { snapshots, releases, records } = this.stores;
    await snapshots.remove({ namespace, snapshotter, key }, "");
    const released = releases.listSnapshots(0n, 100).filter((release) => release.snapshotter === snapshotter);
    const ids = await this.#get(snapshotter).removeReleased(released);
    await records.maintain(() => ids.forEach((id) => releases.removeSnapshot(snapshotter, id)));
  }

  /** Names of the committed snapshots that are recorded. */
  committed(snapshotter: string): string[] {
    const { snapshots } = this.stores;
    return snapshots
      .page({ namespace, snapshotter, key: "" }, 1000)
      .map(({ name }) => name)
      .filter((key) => snapshots.resolve({ namespace, snapshotter, key }).location.kind === Kind.COMMITTED);
  }

  /** All entries that a committed snapshot shows. */
  async describe(snapshotter: string, key: string): Promise<Record<string, unknown>> {
    const mounts = await this.#get(snapshotter).viewCommitted({ namespace, snapshotter, key });
    return await withTemporaryMount(mounts, `${this.#places.scratch}/shown`, (root) =>
      Object.fromEntries(describeTree(root)),
    );
  }

  #get(name: string): Snapshotter {
    const snapshotter = this.#snapshotters.get(name);
    assert.ok(snapshotter !== undefined);
    return snapshotter;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#resources.disposeAsync();
  }
}
