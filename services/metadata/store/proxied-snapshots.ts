import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { validateLabels } from "#containerd/labels.ts";
import type { Kind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import type { Records } from "./records.ts";
import type { ReleaseStore } from "./releases.ts";
import type { SequenceStore } from "./sequences.ts";
import type { PrepareRequest, SnapshotStore } from "./snapshots.ts";

/** What a proxied snapshotter is to be asked for. */
export interface SnapshotReservation {
  readonly id: bigint;
  /** `namespace/id/key`. */
  readonly backendName: string;
  /** What the snapshotter knows the parent by, or "". */
  readonly backendParent: string;
}

/** What a proxied snapshotter has. */
export interface ProxiedSnapshot extends Omit<PrepareRequest, "kind">, SnapshotReservation {
  readonly kind: Kind;
}

/**
 * The records of snapshots that a snapshotter of somebody else keeps. It knows them by names, which it is given, and has none of ours: so a
 * name is given out first and recorded when the snapshot is there, and counts as released in between. What a crash leaves unrecorded the
 * collector has removed.
 *
 * @source containerd v2.3.4 core/metadata/snapshot.go `createSnapshot`, `createKey`
 */
export class ProxiedSnapshotStore {
  readonly #records: Records;
  readonly #snapshots: SnapshotStore;
  readonly #releases: ReleaseStore;
  readonly #sequences: SequenceStore;

  constructor(
    records: Records,
    stores: {
      readonly snapshots: SnapshotStore;
      readonly releases: ReleaseStore;
      readonly sequences: SequenceStore;
    },
  ) {
    this.#records = records;
    this.#snapshots = stores.snapshots;
    this.#releases = stores.releases;
    this.#sequences = stores.sequences;
  }

  /**
   * Gives out the name for a new snapshot.
   *
   * @throws {@link FlotillaError} as {@link SnapshotStore.prepare}.
   */
  async reserve(request: PrepareRequest): Promise<SnapshotReservation> {
    validateLabels(request.labels, "info.Labels");
    const outcome = await this.#records.write(() => {
      const existing = this.#snapshots.holdExisting(request);
      if (existing !== undefined) {
        return existing;
      }
      const { namespace, snapshotter, key, parent } = request;
      const backendParent = this.#snapshots.requireParent(request, parent);
      const id = this.#sequences.next(`snapshots/${snapshotter}`);
      const backendName = `${namespace}/${id}/${key}`;
      this.#releases.releaseSnapshot(snapshotter, id, backendName);
      return { id, backendName, backendParent };
    });
    if (outcome instanceof FlotillaError) {
      throw outcome;
    }
    return outcome;
  }

  /**
   * Records what the snapshotter has made for a reservation, or what it had already, under another name.
   *
   * @throws {@link FlotillaError} `already_exists` when the key is taken, held by the lease then; `not_found` when the parent is gone;
   *   `invalid_argument` when the snapshotter has put it on another one. The reservation stays released.
   */
  async record(snapshot: ProxiedSnapshot): Promise<void> {
    const outcome = await this.#records.write(() => {
      const { snapshotter, id, backendName, parent } = snapshot;
      const existing = this.#snapshots.holdExisting({ ...snapshot, labels: {} });
      if (existing !== undefined) {
        return existing;
      }
      if (this.#snapshots.requireParent(snapshot, parent) !== snapshot.backendParent) {
        const what = `mismatched parent ${parent} from target ${snapshot.key}`;
        throw failure(ErrorKind.InvalidArgument, what);
      }
      this.#releases.pardonSnapshot(snapshotter, id, backendName);
      this.#snapshots.insert(snapshot, { id, usage: undefined, backendName });
      return undefined;
    });
    if (outcome !== undefined) {
      throw outcome;
    }
  }

  /** Those of the ids that are released. */
  confirmReleased(snapshotter: string, ids: readonly bigint[]): bigint[] {
    const released = new Set(this.#releases.listSnapshotIds(snapshotter));
    return ids.filter((id) => released.has(id));
  }
}
