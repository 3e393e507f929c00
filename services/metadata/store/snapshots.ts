import { fromBinary } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { timestampOf } from "#base/times.ts";
import { type Labels, snapshotRefLabel, validateLabels, withoutEmptyLabels } from "#containerd/labels.ts";
import {
  SnapshotCommitSchema,
  SnapshotPrepareSchema,
  SnapshotRemoveSchema,
} from "#gen/containerd/events/snapshot_pb.ts";
import { type Info, InfoSchema, Kind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { updateLabels } from "../domain/labelled.ts";
import type { LeaseStore } from "./leases.ts";
import type { NamedRecord } from "./named-record.ts";
import type { NamespaceStore } from "./namespaces.ts";
import type { Records } from "./records.ts";
import type { ReleaseStore } from "./releases.ts";
import type { SequenceStore } from "./sequences.ts";
import {
  resourceOf,
  type SnapshotLocation,
  type SnapshotName,
  type SnapshotPlace,
  SnapshotRecords,
  type SnapshotUsage,
} from "./snapshot-records.ts";

export interface PrepareRequest extends SnapshotName {
  /** The lease of the call, or "". */
  readonly lease: string;
  /** Name of a committed snapshot, or "". */
  readonly parent: string;
  readonly labels: Labels;
  readonly kind: typeof Kind.ACTIVE | typeof Kind.VIEW;
}

export interface CommitRequest extends SnapshotName {
  /** The lease of the call, or "". */
  readonly lease: string;
  readonly name: string;
  readonly labels: Labels;
  /** What to put a snapshot without parent on, or "". */
  readonly parent: string;
  readonly usage: SnapshotUsage | undefined;
  /** What a proxied snapshotter knows the committed snapshot by, or "". */
  readonly backendName: string;
}

/**
 * The tree of snapshots of each namespace and snapshotter. Active snapshots, views and committed ones share one space of keys.
 *
 * @source containerd v2.3.4 core/metadata/snapshot.go, core/snapshots/storage/bolt.go
 */
export class SnapshotStore {
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #leases: LeaseStore;
  readonly #releases: ReleaseStore;
  readonly #sequences: SequenceStore;
  readonly #snapshots: SnapshotRecords;

  /** @param onChanged - See {@link SnapshotRecords}. */
  constructor(
    records: Records,
    stores: {
      readonly namespaces: NamespaceStore;
      readonly leases: LeaseStore;
      readonly releases: ReleaseStore;
      readonly sequences: SequenceStore;
    },
    onChanged: () => void = () => undefined,
  ) {
    this.#records = records;
    this.#namespaces = stores.namespaces;
    this.#leases = stores.leases;
    this.#releases = stores.releases;
    this.#sequences = stores.sequences;
    this.#snapshots = new SnapshotRecords(records, onChanged);
  }

  /** The encoded record of a snapshot. */
  get(name: SnapshotName): Uint8Array {
    return this.#snapshots.require(name).message;
  }

  /** The encoded records of a namespace and snapshotter by key, after one, at most so many. */
  page(after: SnapshotName, countMax: number): NamedRecord[] {
    return this.#snapshots.page(after, countMax);
  }

  /** Where a snapshot lies, and what it takes on disk if that was measured when it was committed. */
  resolve(name: SnapshotName): { readonly location: SnapshotLocation; readonly usage: SnapshotUsage | undefined } {
    const row = this.#snapshots.require(name);
    return {
      location: this.#snapshots.locate(name, row),
      usage: row.size === null || row.inodes === null ? undefined : { sizeBytes: row.size, inodes: row.inodes },
    };
  }

  /**
   * Records a new active snapshot or view.
   *
   * @throws {@link FlotillaError} `already_exists` when the key is taken, or when the labels name a committed snapshot that
   *   would make the new one needless and that is there; the lease holds the one that exists.
   */
  async prepare(request: PrepareRequest): Promise<SnapshotLocation> {
    validateLabels(request.labels, "info.Labels");
    const outcome = await this.#records.write(() => this.holdExisting(request) ?? this.#insertNew(request));
    if (outcome instanceof FlotillaError) {
      throw outcome;
    }
    return outcome;
  }

  /**
   * Looks for what makes a new snapshot needless or impossible, and has the lease of the call hold it, inside a change.
   *
   * @returns `already_exists`, to be thrown after the change, so that the lease keeps what it holds.
   */
  holdExisting({
    namespace,
    snapshotter,
    key,
    lease,
    labels,
  }: Omit<PrepareRequest, "kind" | "parent">): FlotillaError | undefined {
    this.#namespaces.ensure(namespace, `snapshots/${snapshotter}`);
    const target = labels[snapshotRefLabel] ?? "";
    if (target !== "" && this.#snapshots.find({ namespace, snapshotter, key: target }) !== undefined) {
      this.#leases.hold(lease, resourceOf({ namespace, snapshotter, key: target }));
      return failure(ErrorKind.AlreadyExists, `target snapshot ${quote(target)}`);
    }
    if (this.#snapshots.find({ namespace, snapshotter, key }) !== undefined) {
      this.#leases.hold(lease, resourceOf({ namespace, snapshotter, key }));
      return failure(ErrorKind.AlreadyExists, `snapshot ${quote(key)}`);
    }
    return undefined;
  }

  /**
   * Checks that a new snapshot can stand on a parent, inside a change.
   *
   * @param parent - Its name, or "".
   * @returns What a proxied snapshotter knows the parent by, or "".
   */
  requireParent({ namespace, snapshotter }: SnapshotName, parent: string): string {
    if (parent === "") {
      return "";
    }
    const row = this.#snapshots.find({ namespace, snapshotter, key: parent });
    if (row === undefined) {
      throw failure(ErrorKind.NotFound, `parent snapshot ${parent} does not exist`);
    }
    if (Number(row.kind) !== Kind.COMMITTED) {
      throw failure(
        ErrorKind.InvalidArgument,
        `failed to create snapshot: parent ${quote(parent)} is not committed snapshot`,
      );
    }
    return row.backend_name;
  }

  /**
   * Turns an active snapshot into a committed one under a new name. Labels do not carry over.
   *
   * @throws {@link FlotillaError} `already_exists` when the name is taken; the active snapshot stays, and the lease holds what
   *   has the name.
   */
  async commit(request: CommitRequest): Promise<void> {
    validateLabels(request.labels, "info.Labels");
    const exists = await this.#records.write(() => {
      const { namespace, snapshotter, key, name } = request;
      if (!this.#namespaces.hasEverHad(namespace, `snapshots/${snapshotter}`)) {
        throw failure(ErrorKind.NotFound, `can not find snapshotter ${quote(snapshotter)}`);
      }
      const committed = { namespace, snapshotter, key: name };
      this.#leases.hold(request.lease, resourceOf(committed));
      if (this.#snapshots.find(committed) !== undefined) {
        return true;
      }
      this.#rename(request, committed);
      this.#records.outbox.add(namespace, "/snapshot/commit", SnapshotCommitSchema, { key, name, snapshotter });
      return false;
    });
    if (exists) {
      throw failure(ErrorKind.AlreadyExists, `snapshot ${quote(request.name)}`);
    }
  }

  /**
   * What an update would come to, with nothing changed.
   *
   * @returns All labels, and what a proxied snapshotter knows the snapshot by, or "".
   * @throws {@link FlotillaError} as {@link update}.
   */
  previewUpdate(
    name: SnapshotName,
    labels: Labels,
    paths: readonly string[],
  ): { readonly backendName: string; readonly labels: Record<string, string> } {
    const row = this.#snapshots.require(name);
    const info = fromBinary(InfoSchema, row.message);
    updateLabels(info, labels, paths, { kind: "snapshot", name: name.key });
    return { backendName: row.backend_name, labels: info.labels };
  }

  /** @param paths - Of the update mask; none replaces all labels. */
  update(name: SnapshotName, labels: Labels, paths: readonly string[]): Promise<Info> {
    return this.#records.write(() => {
      const info = fromBinary(InfoSchema, this.#snapshots.require(name).message);
      updateLabels(info, labels, paths, { kind: "snapshot", name: name.key });
      info.labels = withoutEmptyLabels(info.labels);
      info.updatedAt = timestampOf(this.#records.clock());
      this.#snapshots.replace(name, info);
      return info;
    });
  }

  /** Removes the record of a snapshot that has no children. Its directories go later. */
  remove(name: SnapshotName, lease: string): Promise<void> {
    return this.#records.write((change) => {
      this.#snapshots.require(name);
      if (this.#snapshots.hasChild(name)) {
        throw failure(ErrorKind.FailedPrecondition, "cannot remove snapshot with child");
      }
      this.collect(name);
      this.#leases.release(lease, resourceOf(name));
      change.noteDeletion();
    });
  }

  /** Removes the record of a snapshot and tells so, inside a change, and releases its directories. */
  collect(name: SnapshotName): void {
    const { namespace, snapshotter, key } = name;
    const removed = this.#snapshots.remove(name);
    if (removed !== undefined) {
      if (!this.#snapshots.isShared(snapshotter, removed.backend_name)) {
        this.#releases.releaseSnapshot(snapshotter, removed.id, removed.backend_name);
      }
      this.#records.outbox.add(namespace, "/snapshot/remove", SnapshotRemoveSchema, { key, snapshotter });
    }
  }

  /** Records a snapshot under a key that is free, inside a change, and has the lease of the call hold it. */
  insert(
    request: SnapshotName & Pick<PrepareRequest, "lease" | "parent" | "labels"> & { readonly kind: Kind },
    place: SnapshotPlace,
  ): SnapshotLocation {
    const { namespace, snapshotter, key, parent, kind } = request;
    refuseEmpty(key);
    this.#leases.hold(request.lease, resourceOf(request));
    this.#snapshots.add(request, request, place);
    if (kind === Kind.ACTIVE) {
      this.#records.outbox.add(namespace, "/snapshot/prepare", SnapshotPrepareSchema, { key, parent, snapshotter });
    }
    return this.#snapshots.locate(request, this.#snapshots.require(request));
  }

  #insertNew(request: PrepareRequest): SnapshotLocation {
    this.requireParent(request, request.parent);
    refuseEmpty(request.key);
    const id = this.#sequences.next(`snapshots/${request.snapshotter}`);
    return this.insert(request, { id, usage: undefined, backendName: "" });
  }

  #rename(request: CommitRequest, committed: SnapshotName): void {
    const { namespace, snapshotter, key } = request;
    refuseEmpty(committed.key);
    const row = this.#snapshots.require(request);
    const parent = row.parent === "" ? request.parent : row.parent;
    const parentRow = parent === "" ? undefined : this.#snapshots.find({ namespace, snapshotter, key: parent });
    if (parent !== "" && parentRow === undefined) {
      throw failure(ErrorKind.NotFound, `parent snapshot ${parent} does not exist`);
    }
    if (Number(row.kind) !== Kind.ACTIVE) {
      throw failure(
        ErrorKind.FailedPrecondition,
        `failed to commit snapshot ${key}: snapshot ${quote(key)} is not active`,
      );
    }
    if (parentRow !== undefined && Number(parentRow.kind) !== Kind.COMMITTED) {
      throw failure(
        ErrorKind.FailedPrecondition,
        `failed to commit snapshot ${key}: parent ${quote(parent)} is not committed`,
      );
    }
    this.#snapshots.remove(request);
    this.#leases.release(request.lease, resourceOf(request));
    this.#snapshots.add(
      committed,
      { parent, kind: Kind.COMMITTED, labels: request.labels },
      { id: row.id, usage: request.usage, backendName: request.backendName },
    );
  }
}

function refuseEmpty(key: string): void {
  if (key === "") {
    throw new FlotillaError(ErrorKind.Unknown, "bucket name required");
  }
}
