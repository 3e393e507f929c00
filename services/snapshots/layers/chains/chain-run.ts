import { ErrorKind, failure, isFailure, wrapFailure } from "#base/errors.ts";
import type { KeyedLock } from "#base/keyed-lock.ts";
import { quote } from "#base/quote.ts";
import { Turns } from "#base/turns.ts";
import type { Digest } from "#containerd/digest.ts";
import { type Labels, uncompressedLabel } from "#containerd/labels.ts";
import type { AppliedLayer } from "../apply.ts";
import type { LayerApplier } from "../layer-applier.ts";
import { findDirectTarget, lowerDirectoriesOf } from "../mount-shape.ts";
import type { BlobStore, LayerWorkers } from "../ports.ts";
import { type ActiveLayer, prepareLayer } from "./active-layer.ts";
import { chainIdsOf } from "./chain-id.ts";
import { chainLabels } from "./chain-labels.ts";
import { decryptionPayloads } from "./decryption-payloads.ts";
import type { ChainLayer, ChainOrder, ChainResult, ChainWatch, LayerNews } from "./order.ts";

/** What unpacking works with. */
export interface UnpackerParts {
  readonly differ: LayerApplier;
  readonly blobs: BlobStore;
  readonly workers: LayerWorkers;
}

/** Layers of one chain that are applied at a time unless the order says; the threads are the limit for all chains together. */
const sideBySideDefault = 8;

/** A layer with its place in the chain. */
interface PlacedLayer extends ChainLayer {
  readonly index: number;
  readonly chainId: Digest;
  readonly parentChainId: Digest | undefined;
  readonly labels: Labels;
}

/** The unpacking of one chain; see `ChainUnpacker`. */
export class ChainRun {
  readonly #parts: UnpackerParts;
  readonly #locks: KeyedLock<string>;
  readonly #order: ChainOrder;
  readonly #watch: ChainWatch;
  readonly #layers: readonly PlacedLayer[];
  readonly #turns: Turns;
  /** Aborted by the first layer that fails, and by the caller. */
  readonly #failed = new AbortController();
  readonly #signal: AbortSignal;
  readonly #asked = new Set<number>();
  #committed = 0;

  constructor(parts: UnpackerParts, locks: KeyedLock<string>, order: ChainOrder, watch: ChainWatch) {
    this.#parts = parts;
    this.#locks = locks;
    this.#order = order;
    this.#watch = watch;
    this.#turns = new Turns(order.sideBySideMax === 0 ? sideBySideDefault : order.sideBySideMax);
    this.#signal = AbortSignal.any([order.owner.signal, this.#failed.signal]);
    const chainIds = chainIdsOf(order.layers.map(({ diffId }) => diffId));
    this.#layers = order.layers.map((layer, index) => placeLayer(layer, index, chainIds, order.labels));
  }

  async run(): Promise<ChainResult> {
    const top = this.#layers.at(-1);
    if (top === undefined) {
      return { chainId: "", committed: 0 };
    }
    if (await this.#isPresent(top)) {
      this.#layers.forEach((layer) => this.#tell(layer, { state: "present" }));
    } else {
      // The threads start while the first bytes are on their way.
      this.#parts.workers.prepare(this.#order.snapshots.canRebase ? this.#layers.length : 1);
      await (this.#order.snapshots.canRebase ? this.#runSideBySide() : this.#runInOrder());
    }
    return { chainId: top.chainId, committed: this.#committed };
  }

  /** Tells whether the whole chain is there, and has the lease hold it then. */
  async #isPresent(top: PlacedLayer): Promise<boolean> {
    const { snapshots } = this.#order;
    if (!(await snapshots.exists(top.chainId))) {
      return false;
    }
    const active = await prepareLayer(snapshots, top, top.parentChainId ?? "");
    if (active === undefined) {
      return true;
    }
    // The collector was faster.
    await this.#discard(active);
    return false;
  }

  async #runSideBySide(): Promise<void> {
    let below: Promise<void> = Promise.resolve();
    const all = this.#layers.map((layer) => {
      const made = this.#make(layer, "", below);
      below = made;
      return made;
    });
    await Promise.allSettled(all);
    this.#order.owner.signal.throwIfAborted();
    this.#failed.signal.throwIfAborted();
  }

  async #runInOrder(): Promise<void> {
    for (const layer of this.#layers) {
      await this.#make(layer, layer.parentChainId ?? "", Promise.resolve());
    }
  }

  /** Makes the snapshot of a layer unless it is there. @param below - Resolves when the one below is committed. */
  async #make(layer: PlacedLayer, parent: string, below: Promise<void>): Promise<void> {
    const { snapshots, owner } = this.#order;
    const lock = JSON.stringify([owner.namespace, snapshots.snapshotter, layer.chainId]);
    try {
      await this.#locks.run([lock], () => this.#makeLocked(layer, parent, below), this.#signal);
    } catch (error) {
      this.#failed.abort(error);
      throw error;
    }
  }

  async #makeLocked(layer: PlacedLayer, parent: string, below: Promise<void>): Promise<void> {
    this.#signal.throwIfAborted();
    const active = await prepareLayer(this.#order.snapshots, layer, parent);
    if (active === undefined) {
      this.#tell(layer, { state: "present" });
      return;
    }
    try {
      this.#signal.throwIfAborted();
      this.#askForBytes(layer);
      await this.#untilAborted(layer.bytes);
      const startedAt = performance.now();
      const applied = await this.#turns.run(() => this.#apply(layer, active), this.#signal);
      const elapsedMs = performance.now() - startedAt;
      await this.#settle(layer, active, applied);
      await this.#untilAborted(below);
      await this.#commit(layer, active, applied);
      this.#tell(layer, { state: "committed", usedBytes: applied.usedBytes, sizeBytes: applied.sizeBytes, elapsedMs });
    } catch (error) {
      await this.#discard(active);
      throw error;
    }
  }

  /** Asks for the bytes of a layer; and, since layers that come one after the other are wanted all, for those above. */
  #askForBytes({ index }: PlacedLayer): void {
    const { canRebase } = this.#order.snapshots;
    for (const layer of canRebase ? this.#layers.slice(index, index + 1) : this.#layers.slice(index)) {
      if (!layer.isComplete() && !this.#asked.has(layer.index)) {
        this.#asked.add(layer.index);
        this.#tell(layer, { state: "needed" });
      }
    }
  }

  async #apply(layer: PlacedLayer, { key, mounts }: ActiveLayer): Promise<AppliedLayer> {
    const { owner, snapshots, syncFileSystem, usesNodeKeys } = this.#order;
    this.#tell(layer, { state: "applying", usedBytes: 0 });
    let applied: AppliedLayer;
    try {
      applied = await this.#parts.differ.apply(
        { ...owner, signal: this.#signal },
        {
          mediaType: layer.mediaType,
          digest: layer.digest,
          mounts,
          payloads: usesNodeKeys ? decryptionPayloads(layer) : new Map(),
          syncFileSystem,
          measures: snapshots.canRebase,
          blobBytes: layer.sizeBytes,
          onProgress: (usedBytes) => this.#tell(layer, { state: "applying", usedBytes }),
        },
      );
    } catch (error) {
      this.#signal.throwIfAborted();
      const what = `(${layer.mediaType} ${layer.digest}) to ${snapshots.snapshotter} as ${quote(key)}`;
      throw wrapFailure(error, `failed to extract layer ${what}`);
    }
    if (applied.digest !== layer.diffId) {
      const [found, wanted, blob] = [applied.digest, layer.diffId, layer.digest].map(quote);
      throw failure(ErrorKind.Unknown, `wrong diff id ${found} calculated on extraction ${wanted}, desc ${blob}`);
    }
    return applied;
  }

  /**
   * Measures a layer, unless that is done, while those below are still being made, and unless its directories get attributes from them.
   *
   * Commits come one after the other; without this each would begin to count its files only then.
   */
  async #settle(layer: PlacedLayer, { key }: ActiveLayer, { implied, measured }: AppliedLayer): Promise<void> {
    const { snapshots } = this.#order;
    if (snapshots.canRebase && (layer.parentChainId === undefined || implied.length === 0)) {
      await snapshots.settle(key, measured);
    }
  }

  async #commit(layer: PlacedLayer, active: ActiveLayer, applied: AppliedLayer): Promise<void> {
    const { snapshots, owner } = this.#order;
    const parent = snapshots.canRebase ? (layer.parentChainId ?? "") : "";
    try {
      if (parent !== "" && applied.implied.length > 0) {
        await this.#adopt(active, applied, parent);
      }
      await snapshots.commit({ key: active.key, name: layer.chainId, parent, labels: layer.labels });
      this.#committed += 1;
    } catch (error) {
      if (!isFailure(error, ErrorKind.AlreadyExists)) {
        throw wrapFailure(error, `failed to commit snapshot ${active.key}`);
      }
      // Somebody has made it without asking here. Theirs stays.
      await this.#discard(active);
    }
    try {
      await this.#parts.blobs.setLabel(
        { ...owner, signal: this.#signal },
        layer.digest,
        uncompressedLabel,
        layer.diffId,
      );
    } catch (error) {
      throw wrapFailure(error, `failed to label layer ${layer.digest}`);
    }
  }

  /** Gives directories that the layer has not described the attributes of those that lie below now. */
  async #adopt({ mounts }: ActiveLayer, { implied }: AppliedLayer, parent: string): Promise<void> {
    const target = findDirectTarget(mounts);
    if (target !== undefined) {
      const { snapshots, syncFileSystem } = this.#order;
      const lowers = lowerDirectoriesOf(await snapshots.view(parent));
      await this.#parts.workers.adopt({ root: target.root, lowers, paths: implied, syncFileSystem }, this.#signal);
    }
  }

  async #discard({ key }: ActiveLayer): Promise<void> {
    await this.#order.snapshots.remove(key).catch((error: unknown) => this.#watch.onLeft(key, error));
  }

  #tell({ index, chainId }: PlacedLayer, news: LayerNews): void {
    this.#watch.onLayer(index, { ...news, chainId });
  }

  async #untilAborted<T>(work: Promise<T>): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>();
    const giveUp = (): void => reject(this.#signal.reason as Error);
    this.#signal.throwIfAborted();
    this.#signal.addEventListener("abort", giveUp, { once: true });
    try {
      return await Promise.race([work, promise]);
    } finally {
      this.#signal.removeEventListener("abort", giveUp);
    }
  }
}

function placeLayer(layer: ChainLayer, index: number, chainIds: readonly Digest[], asked: Labels): PlacedLayer {
  const chainId = chainIds[index] ?? layer.diffId;
  const parentChainId = chainIds[index - 1];
  const labels = chainLabels(asked, layer.annotations, { chainId, diffId: layer.diffId, parentChainId });
  return { ...layer, index, chainId, parentChainId, labels };
}
