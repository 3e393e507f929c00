import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
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
import { readReferenceFacts } from "../domain/reference-labels.ts";
import { type Resource, ResourceKind, snapshotResourceKey } from "../domain/resource.ts";
import type { LeaseStore } from "./leases.ts";
import type { NamedRecord } from "./named-record.ts";
import type { NamespaceStore } from "./namespaces.ts";
import type { Records } from "./records.ts";
import type { ReleaseStore } from "./releases.ts";
import type { SequenceStore } from "./sequences.ts";
import { type SnapshotRow, SnapshotRows } from "./snapshot-rows.ts";

/** Names a snapshot: a key or the name that it was committed under. */
export interface SnapshotName {
  readonly namespace: string;
  readonly snapshotter: string;
  readonly key: string;
}

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

export interface SnapshotUsage {
  readonly sizeBytes: bigint;
  readonly inodes: bigint;
}

/** Where a snapshot lies. */
export interface SnapshotLocation {
  /** Unique within the snapshotter for ever, across namespaces. */
  readonly id: bigint;
  /** The committed ancestors, nearest first. */
  readonly parentIds: readonly bigint[];
  readonly kind: Kind;
  readonly labels: Record<string, string>;
  /** What a proxied snapshotter knows the snapshot, and the nearest ancestor, by; "" for all others. */
  readonly backendName: string;
  readonly backendParent: string;
}

/** What stands beside the record of a snapshot. */
export interface SnapshotPlace {
  readonly id: bigint;
  readonly usage: SnapshotUsage | undefined;
  /** See {@link SnapshotLocation.backendName}. */
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
  readonly #rows: SnapshotRows;

  constructor(
    records: Records,
    stores: {
      readonly namespaces: NamespaceStore;
      readonly leases: LeaseStore;
      readonly releases: ReleaseStore;
      readonly sequences: SequenceStore;
    },
  ) {
    const { database } = records;
    this.#records = records;
    this.#namespaces = stores.namespaces;
    this.#leases = stores.leases;
    this.#releases = stores.releases;
    this.#sequences = stores.sequences;
    this.#rows = new SnapshotRows(database);
  }

  /** The encoded record of a snapshot. */
  get(name: SnapshotName): Uint8Array {
    return this.#require(name).message;
  }

  /** The encoded records of a namespace and snapshotter by key, after one, at most so many. */
  page({ namespace, snapshotter, key: afterKey }: SnapshotName, countMax: number): NamedRecord[] {
    return this.#rows.page.all(namespace, snapshotter, afterKey, countMax);
  }

  /** Where a snapshot lies, and what it takes on disk if that was measured when it was committed. */
  resolve(name: SnapshotName): { readonly location: SnapshotLocation; readonly usage: SnapshotUsage | undefined } {
    const row = this.#require(name);
    return {
      location: this.#locate(name, row),
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
    if (target !== "" && this.#findRow({ namespace, snapshotter, key: target }) !== undefined) {
      this.#leases.hold(lease, resourceOf({ namespace, snapshotter, key: target }));
      return failure(ErrorKind.AlreadyExists, `target snapshot ${quote(target)}`);
    }
    if (this.#findRow({ namespace, snapshotter, key }) !== undefined) {
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
    const row = this.#findRow({ namespace, snapshotter, key: parent });
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
      if (this.#findRow(committed) !== undefined) {
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
    const row = this.#require(name);
    const info = fromBinary(InfoSchema, row.message);
    updateLabels(info, labels, paths, { kind: "snapshot", name: name.key });
    return { backendName: row.backend_name, labels: info.labels };
  }

  /** @param paths - Of the update mask; none replaces all labels. */
  update(name: SnapshotName, labels: Labels, paths: readonly string[]): Promise<Info> {
    return this.#records.write(() => {
      const info = fromBinary(InfoSchema, this.#require(name).message);
      updateLabels(info, labels, paths, { kind: "snapshot", name: name.key });
      info.labels = withoutEmptyLabels(info.labels);
      info.updatedAt = timestampOf(this.#records.clock());
      this.#rows.setMessage.run(toBinary(InfoSchema, info), name.namespace, name.snapshotter, name.key);
      this.#putNode(name, info);
      return info;
    });
  }

  /** Removes the record of a snapshot that has no children. Its directories go later. */
  remove(name: SnapshotName, lease: string): Promise<void> {
    return this.#records.write((change) => {
      this.#require(name);
      if (this.#rows.hasChild.get(name.namespace, name.snapshotter, name.key) !== undefined) {
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
    const removed = this.#rows.remove.get(namespace, snapshotter, key);
    this.#records.graph.remove(resourceOf(name));
    if (removed !== undefined) {
      if (this.#rows.isShared.get(snapshotter, removed.backend_name) === undefined) {
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
    const info = this.#newInfo(key, parent, kind, request.labels);
    this.#store(request, info, place);
    if (kind === Kind.ACTIVE) {
      this.#records.outbox.add(namespace, "/snapshot/prepare", SnapshotPrepareSchema, { key, parent, snapshotter });
    }
    return this.#locate(request, this.#require(request));
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
    const row = this.#require(request);
    const parent = row.parent === "" ? request.parent : row.parent;
    const parentRow = parent === "" ? undefined : this.#findRow({ namespace, snapshotter, key: parent });
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
    this.#rows.remove.run(namespace, snapshotter, key);
    this.#records.graph.remove(resourceOf(request));
    this.#leases.release(request.lease, resourceOf(request));
    const info = this.#newInfo(committed.key, parent, Kind.COMMITTED, request.labels);
    this.#store(committed, info, { id: row.id, usage: request.usage, backendName: request.backendName });
  }

  #newInfo(name: string, parent: string, kind: Kind, labels: Labels): Info {
    const now = timestampOf(this.#records.clock());
    return create(InfoSchema, {
      name,
      parent,
      kind,
      createdAt: now,
      updatedAt: now,
      labels: withoutEmptyLabels(labels),
    });
  }

  #store({ namespace, snapshotter }: SnapshotName, info: Info, { id, usage, backendName }: SnapshotPlace): void {
    const message = toBinary(InfoSchema, info);
    this.#rows.insert.run(
      namespace,
      snapshotter,
      info.name,
      id,
      info.kind,
      info.parent,
      message,
      usage?.sizeBytes ?? null,
      usage?.inodes ?? null,
      backendName,
    );
    this.#putNode({ namespace, snapshotter, key: info.name }, info);
  }

  #putNode(name: SnapshotName, info: Info): void {
    const parents =
      info.parent === ""
        ? []
        : [{ kind: ResourceKind.Snapshot, key: snapshotResourceKey(name.snapshotter, info.parent) }];
    this.#records.graph.put(resourceOf(name), readReferenceFacts(ResourceKind.Snapshot, info.labels, parents));
  }

  #locate({ namespace, snapshotter, key }: SnapshotName, row: SnapshotRow): SnapshotLocation {
    const { kind, labels } = fromBinary(InfoSchema, row.message);
    return {
      id: row.id,
      parentIds: this.#rows.ancestors.all(namespace, snapshotter, key),
      kind,
      labels,
      backendName: row.backend_name,
      // Nobody else's snapshots are known by names.
      backendParent:
        row.backend_name === "" ? "" : (this.#findRow({ namespace, snapshotter, key: row.parent })?.backend_name ?? ""),
    };
  }

  #findRow({ namespace, snapshotter, key }: SnapshotName): SnapshotRow | undefined {
    return this.#rows.find.get(namespace, snapshotter, key);
  }

  #require(name: SnapshotName): SnapshotRow {
    const row = this.#findRow(name);
    if (row === undefined) {
      throw failure(ErrorKind.NotFound, `snapshot ${name.key} does not exist`);
    }
    return row;
  }
}

function resourceOf({ namespace, snapshotter, key }: SnapshotName): Resource {
  return { namespace, kind: ResourceKind.Snapshot, key: snapshotResourceKey(snapshotter, key) };
}

function refuseEmpty(key: string): void {
  if (key === "") {
    throw new FlotillaError(ErrorKind.Unknown, "bucket name required");
  }
}
