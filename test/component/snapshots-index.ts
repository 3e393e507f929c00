import { ErrorKind, failure } from "#base/errors.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import {
  type CommitSnapshotRequest,
  MountIndex,
  type PrepareSnapshotRequest,
  type ReconcileSnapshotsRequest,
  SnapshotIndex,
  SnapshotKind,
} from "#gen/flotilla/index/v1/index_pb.ts";
import { bindService, type ServiceBinding } from "#wire/handler.ts";

/** A record of {@link MemorySnapshotIndex}. */
export interface MemorySnapshot {
  readonly id: bigint;
  readonly kind: SnapshotKind;
  readonly parent: string;
  readonly labels: Record<string, string>;
  readonly usage?: { readonly size: bigint; readonly inodes: bigint };
}

/** Stands in for the metadata process: the tree of snapshots of one namespace, in memory. */
export class MemorySnapshotIndex {
  /** Snapshots by `<snapshotter>/<key>`. */
  readonly snapshots = new Map<string, MemorySnapshot>();
  /** What was asked, in order. */
  readonly prepared: PrepareSnapshotRequest[] = [];
  readonly committed: CommitSnapshotRequest[] = [];
  /** Keys that were looked up, in order. */
  readonly resolved: string[] = [];
  readonly reconciled: ReconcileSnapshotsRequest[] = [];
  /** Activations of mounts by `<namespace>/<name>`. */
  readonly mounts = new Map<string, bigint>();
  #lastId = 0n;
  #lastMount = 0n;

  /** The private and the public service. */
  bindings(): ServiceBinding[] {
    return [
      bindService(SnapshotIndex, {
        prepareSnapshot: (request) => this.#prepare(request),
        resolveSnapshot: ({ snapshotter, key }) => {
          this.resolved.push(key);
          const found = this.#get(snapshotter, key);
          return { location: this.locationOf(snapshotter, found), ...(found.usage && { usage: found.usage }) };
        },
        commitSnapshot: (request) => this.#commit(request),
        reconcileSnapshots: (request) => this.#reconcile(request),
      }),
      bindService(MountIndex, {
        addMount: ({ namespace, name }) => {
          const key = `${namespace}/${name}`;
          if (this.mounts.has(key)) {
            throw failure(ErrorKind.AlreadyExists, `mount "${name}"`);
          }
          this.#lastMount += 1n;
          this.mounts.set(key, this.#lastMount);
          return { id: this.#lastMount };
        },
        removeMount: ({ namespace, name }) => {
          const id = this.mounts.get(`${namespace}/${name}`);
          if (id === undefined) {
            throw failure(ErrorKind.NotFound, `missing mount "${name}" bucket`);
          }
          this.mounts.delete(`${namespace}/${name}`);
          return { id };
        },
        reconcileMounts: ({ ids }) => {
          const known = new Set<bigint>();
          for (const [key, id] of this.mounts) {
            if (ids.includes(id)) {
              known.add(id);
            } else {
              this.mounts.delete(key);
            }
          }
          return { orphanIds: ids.filter((id) => !known.has(id)) };
        },
      }),
      bindService(Snapshots, {
        remove: ({ snapshotter, key }) => {
          this.#get(snapshotter, key);
          this.snapshots.delete(`${snapshotter}/${key}`);
          return {};
        },
      }),
    ];
  }

  #prepare(request: PrepareSnapshotRequest): { location: ReturnType<MemorySnapshotIndex["locationOf"]> } {
    const { snapshotter, key, parent, labels, kind } = request;
    this.prepared.push(request);
    if (this.snapshots.has(`${snapshotter}/${key}`)) {
      throw failure(ErrorKind.AlreadyExists, `snapshot "${key}"`);
    }
    const target = labels["containerd.io/snapshot.ref"];
    if (this.snapshots.get(`${snapshotter}/${target}`)?.kind === SnapshotKind.COMMITTED) {
      throw failure(ErrorKind.AlreadyExists, `target snapshot "${target}"`);
    }
    this.#lastId += 1n;
    const made = { id: this.#lastId, kind, parent, labels };
    this.snapshots.set(`${snapshotter}/${key}`, made);
    return { location: this.locationOf(snapshotter, made) };
  }

  #commit(request: CommitSnapshotRequest): Record<string, never> {
    const { snapshotter, key, name, labels, usage } = request;
    this.committed.push(request);
    const active = this.#get(snapshotter, key);
    if (active.kind !== SnapshotKind.ACTIVE) {
      throw failure(ErrorKind.FailedPrecondition, `snapshot "${key}" is not active`);
    }
    if (this.snapshots.has(`${snapshotter}/${name}`)) {
      throw failure(ErrorKind.AlreadyExists, `snapshot "${name}"`);
    }
    if (request.parent !== "") {
      this.#get(snapshotter, request.parent);
    }
    const kind = SnapshotKind.COMMITTED;
    const parent = request.parent || active.parent;
    this.snapshots.delete(`${snapshotter}/${key}`);
    this.snapshots.set(`${snapshotter}/${name}`, { id: active.id, kind, parent, labels, ...(usage && { usage }) });
    return {};
  }

  #reconcile(request: ReconcileSnapshotsRequest): {
    repairs: { snapshotter: string; orphanIds: bigint[]; missing: ReturnType<MemorySnapshotIndex["locationOf"]>[] }[];
  } {
    this.reconciled.push(request);
    const repairs = request.snapshotters.map(({ name, ids }) => {
      const records = [...this.snapshots].filter(([key]) => key.startsWith(`${name}/`)).map(([, record]) => record);
      return {
        snapshotter: name,
        orphanIds: ids.filter((id) => !records.some((record) => record.id === id)),
        missing: records.filter(({ id }) => !ids.includes(id)).map((record) => this.locationOf(name, record)),
      };
    });
    return { repairs: repairs.filter(({ orphanIds, missing }) => orphanIds.length + missing.length > 0) };
  }

  #get(snapshotter: string, key: string): MemorySnapshot {
    const found = this.snapshots.get(`${snapshotter}/${key}`);
    if (found === undefined) {
      throw failure(ErrorKind.NotFound, `snapshot ${key} does not exist`);
    }
    return found;
  }

  /** Where a snapshot and its ancestors lie. */
  locationOf(
    snapshotter: string,
    { id, kind, parent, labels }: MemorySnapshot,
  ): { id: bigint; kind: SnapshotKind; labels: Record<string, string>; parentIds: bigint[] } {
    const parentIds: bigint[] = [];
    for (let name = parent; name !== ""; ) {
      const ancestor = this.#get(snapshotter, name);
      parentIds.push(ancestor.id);
      name = ancestor.parent;
    }
    return { id, kind, labels, parentIds };
  }
}
