import { ErrorKind, errorMessage, FlotillaError, failure, isFailure } from "#base/errors.ts";
import { KeyedLock } from "#base/keyed-lock.ts";
import { quote } from "#base/quote.ts";
import { inheritedLabels, type Labels, snapshotRefLabel, validateLabels } from "#containerd/labels.ts";
import type { Mount } from "#linux/mount.ts";
import type { ReleasedSnapshot, SnapshotterFront } from "../domain/front.ts";
import type {
  NewSnapshot,
  ProxiedRecord,
  ProxiedSnapshotIndex,
  SnapshotCommit,
  SnapshotName,
  SnapshotReservation,
} from "../domain/ports.ts";
import type { SnapshotUsage } from "../drivers/driver.ts";
import type { BackendSnapshot, SnapshotBackend } from "./backend.ts";
import { NamesInUse } from "./names-in-use.ts";
import { RemovalQueue } from "./removal-queue.ts";

/** Labels of a snapshot that change. */
export interface LabelUpdate {
  readonly namespace: string;
  readonly backendName: string;
  readonly labels: Labels;
  readonly paths: readonly string[];
}

/** Told of removals that failed. They are tried again by later collections. */
export type RemovalWatch = (snapshotter: string, error: unknown) => void;

/**
 * A snapshotter that is somebody else's, behind our namespaces, labels and leases.
 *
 * What it keeps for us it knows by names such as `namespace/id/key`. A name is given out before the snapshotter is asked for anything, and
 * recorded when it has made what it was asked for; what never gets recorded the collector has removed. Names under which the
 * snapshotter had something already, since it makes committed snapshots out of a reference by itself, may be shared by several namespaces
 * and go when the last record does.
 *
 * @source containerd v2.3.4 core/metadata/snapshot.go
 */
export class ProxiedSnapshotter implements SnapshotterFront {
  readonly name: string;
  /** Layers need the mounts of committed snapshots for that, which the API does not give. */
  readonly canRebase = false;
  readonly #backend: SnapshotBackend;
  readonly #index: ProxiedSnapshotIndex;
  readonly #locks = new KeyedLock<string>();
  /** Names that are being made or taken over, and not to be removed. */
  readonly #wanted = new NamesInUse();
  readonly #removals: RemovalQueue;

  constructor(name: string, backend: SnapshotBackend, index: ProxiedSnapshotIndex, onRemovalFailed: RemovalWatch) {
    this.name = name;
    this.#backend = backend;
    this.#index = index;
    // The namespace of a snapshot stands in front of its name; one that the snapshotter named itself belongs to all.
    let lastNamespace = "default";
    this.#removals = new RemovalQueue({
      isStuck: () => backend.isStuck,
      remove: async (released) => {
        lastNamespace = namespaceOf(released.backendName) ?? lastNamespace;
        return await this.#removeOne(lastNamespace, released);
      },
      settle: () => backend.cleanup(lastNamespace),
      onFailure: (error) => onRemovalFailed(name, error),
    });
  }

  /**
   * Makes an active snapshot or a view.
   *
   * @throws {@link FlotillaError} `already_exists` also when the snapshotter has what the labels refer to; it is recorded then, and the lease
   *   holds it.
   */
  async prepare(snapshot: NewSnapshot, signal?: AbortSignal): Promise<readonly Mount[]> {
    if (snapshot.call?.repeatedAfterMs !== undefined) {
      throw failure(ErrorKind.Unavailable, `nobody knows what ${this.name} has made of ${quote(snapshot.key)}`);
    }
    const reservation = await this.#reserve(snapshot);
    return await this.#wanted.during(reservation.backendName, async () => {
      const mounts = await this.#make(snapshot, reservation, signal);
      await this.#record(snapshot, reservation);
      return mounts;
    });
  }

  async mounts(name: SnapshotName, signal?: AbortSignal): Promise<readonly Mount[]> {
    const { kind, backendName } = await this.#index.find(name);
    if (kind === "committed") {
      throw failure(ErrorKind.FailedPrecondition, `requested snapshot ${name.key} not active or view`);
    }
    return await this.#backend.mounts(name.namespace, backendName, signal);
  }

  async commit(commit: SnapshotCommit): Promise<void> {
    validateLabels(commit.labels, "info.Labels");
    const { namespace, snapshotter, name, key } = commit;
    // Nobody else may take the name between the snapshotter's commit and the record.
    await this.#locks.run([`${namespace}/${name}`, `${namespace}/${key}`], async () => {
      const active = await this.#findOrNot(commit);
      const taken = await this.#findOrNot({ namespace, snapshotter, key: name });
      if (active?.kind !== "active" || taken !== undefined) {
        // The index says what is wrong, and has the lease hold what has the name.
        await this.#index.commit(commit, "");
        return;
      }
      const backendName = `${namespace}/${active.id}/${name}`;
      await this.#commitBackend(commit, active, backendName);
      await this.#recordCommit(commit, active, backendName);
    });
  }

  async usage(name: SnapshotName, signal?: AbortSignal): Promise<SnapshotUsage> {
    const { backendName } = await this.#index.find(name);
    return await this.#backend.usage(name.namespace, backendName, signal);
  }

  async isCommitted(name: SnapshotName): Promise<boolean> {
    return (await this.#findOrNot(name))?.kind === "committed";
  }

  settle(): Promise<void> {
    return Promise.reject(failure(ErrorKind.NotImplemented, `commits of ${this.name} in two steps`));
  }

  viewCommitted(): Promise<readonly Mount[]> {
    return Promise.reject(failure(ErrorKind.NotImplemented, `mounts of committed snapshots of ${this.name}`));
  }

  async remove(name: SnapshotName): Promise<void> {
    try {
      await this.#index.remove(name);
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        throw error;
      }
    }
  }

  removeReleased(released: readonly ReleasedSnapshot[]): Promise<readonly bigint[]> {
    return this.#removals.ask(released.filter(({ backendName }) => !this.#wanted.has(backendName)));
  }

  /**
   * Tells the snapshotter of labels that are about to change.
   *
   * @param update.labels - All labels of the snapshot, as they will be.
   * @param update.paths - Of the update mask.
   */
  updateLabels({ namespace, backendName, labels, paths }: LabelUpdate): Promise<void> {
    return this.#backend.update(namespace, backendName, inheritedLabels(labels), paths);
  }

  /** A name that is given out twice since an answer was lost is one that the collector finds nothing under. */
  async #reserve(snapshot: NewSnapshot): Promise<SnapshotReservation> {
    try {
      return await this.#index.reserve(snapshot);
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable)) {
        throw error;
      }
      return await this.#index.reserve(snapshot);
    }
  }

  /** Has the snapshotter make what was asked for. */
  async #make(
    snapshot: NewSnapshot,
    reservation: SnapshotReservation,
    signal: AbortSignal | undefined,
  ): Promise<readonly Mount[]> {
    const { kind, namespace, labels } = snapshot;
    const { backendName: key, backendParent: parent } = reservation;
    try {
      return await this.#backend.prepare(namespace, { kind, key, parent, labels: inheritedLabels(labels) }, signal);
    } catch (error) {
      if (!isFailure(error, ErrorKind.AlreadyExists)) {
        throw error;
      }
      const target = labels[snapshotRefLabel] ?? "";
      if (target === "") {
        // The name is new, so that it is the snapshotter who is wrong.
        const text = `unexpected error from snapshotter: ${errorMessage(error)}: ${ErrorKind.Unknown}`;
        throw new FlotillaError(ErrorKind.Unknown, text, { cause: error });
      }
      await this.#adopt(snapshot, target, reservation);
      throw failure(ErrorKind.AlreadyExists, `target snapshot ${quote(target)} from snapshotter`);
    }
  }

  /** Records a committed snapshot that the snapshotter has by itself. */
  async #adopt(snapshot: NewSnapshot, target: string, reservation: SnapshotReservation): Promise<void> {
    const { namespace, labels } = snapshot;
    const found = await this.#backend.findTarget(namespace, target, reservation.backendParent);
    if (found === undefined) {
      throw failure(ErrorKind.NotFound, `target snapshot ${quote(target)} in backend`);
    }
    await this.#wanted.during(found.name, () =>
      this.#locks.run([found.name], async () => {
        // It may have been on its way out, for want of a record.
        const { parent, labels: told } = await this.#backend.stat(namespace, found.name);
        await this.#record(
          { ...snapshot, key: target, kind: "committed", labels: { ...told, ...labels } },
          { id: reservation.id, backendName: found.name, backendParent: parent },
        );
      }),
    );
  }

  /** Records a snapshot, over a loss of the connection too. */
  async #record(
    snapshot: Parameters<ProxiedSnapshotIndex["record"]>[0],
    reservation: SnapshotReservation,
  ): Promise<void> {
    try {
      await this.#index.record(snapshot, reservation);
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable)) {
        throw error;
      }
      if ((await this.#findOrNot(snapshot))?.id !== reservation.id) {
        await this.#index.record(snapshot, reservation);
      }
    }
  }

  async #commitBackend(
    { namespace, snapshotter, parent, labels }: SnapshotCommit,
    active: ProxiedRecord,
    name: string,
  ): Promise<void> {
    const isRebase = active.backendParent === "" && parent !== "";
    const below = isRebase ? (await this.#index.find({ namespace, snapshotter, key: parent })).backendName : "";
    try {
      const order = { name, key: active.backendName, parent: below, labels: inheritedLabels(labels) };
      await this.#backend.commit(namespace, order);
    } catch (error) {
      // An earlier try may have got as far as this, and been lost before it was recorded.
      const isDone = isFailure(error, ErrorKind.NotFound, ErrorKind.AlreadyExists, ErrorKind.Unavailable);
      if (!isDone || (await this.#statOrNot(namespace, name))?.kind !== "committed") {
        throw error;
      }
    }
  }

  async #recordCommit(commit: SnapshotCommit, active: ProxiedRecord, backendName: string): Promise<void> {
    try {
      await this.#index.commit(commit, backendName);
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable)) {
        throw error;
      }
      if ((await this.#findOrNot({ ...commit, key: commit.name }))?.id !== active.id) {
        await this.#index.commit(commit, backendName);
      }
    }
  }

  async #removeOne(namespace: string, { id, backendName }: ReleasedSnapshot): Promise<boolean> {
    return await this.#locks.run([backendName], async () => {
      const [confirmed] = await this.#index.confirmReleased(this.name, [id]);
      if (confirmed === undefined || this.#wanted.has(backendName)) {
        return false;
      }
      try {
        await this.#backend.remove(namespace, backendName);
      } catch (error) {
        if (!isFailure(error, ErrorKind.NotFound)) {
          throw error;
        }
      }
      return true;
    });
  }

  #findOrNot(name: SnapshotName): Promise<ProxiedRecord | undefined> {
    return orNot(this.#index.find(name));
  }

  #statOrNot(namespace: string, name: string): Promise<BackendSnapshot | undefined> {
    return orNot(this.#backend.stat(namespace, name));
  }
}

async function orNot<T>(found: Promise<T>): Promise<T | undefined> {
  try {
    return await found;
  } catch (error) {
    if (isFailure(error, ErrorKind.NotFound)) {
      return undefined;
    }
    throw error;
  }
}

/** The namespace in a name that we gave out. */
function namespaceOf(backendName: string): string | undefined {
  return /^([^/]+)\/\d+\//.exec(backendName)?.[1];
}
