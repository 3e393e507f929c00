import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { timestampOf } from "#base/times.ts";
import { type Labels, withoutEmptyLabels } from "#containerd/labels.ts";
import { type Info, InfoSchema, type Kind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { readReferenceFacts } from "../domain/reference-labels.ts";
import { type Resource, ResourceKind, snapshotResourceKey } from "../domain/resource.ts";
import type { NamedRecord } from "./named-record.ts";
import type { Records } from "./records.ts";
import { type SnapshotRow, SnapshotRows } from "./snapshot-rows.ts";

/** Names a snapshot: a key or the name that it was committed under. */
export interface SnapshotName {
  readonly namespace: string;
  readonly snapshotter: string;
  readonly key: string;
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

/** The node of a snapshot in the graph of the collector. */
export function resourceOf({ namespace, snapshotter, key }: SnapshotName): Resource {
  return { namespace, kind: ResourceKind.Snapshot, key: snapshotResourceKey(snapshotter, key) };
}

/**
 * The records of snapshots, each a row with its message and a node of the graph that the collector follows. What may follow on what is for
 * others to say; all that changes something runs inside a change.
 */
export class SnapshotRecords {
  readonly #records: Records;
  readonly #rows: SnapshotRows;
  readonly #noteChange: () => void;

  /** @param onChanged - Called after a commit that changed or removed records, before anybody is told of it. */
  constructor(records: Records, onChanged: () => void) {
    this.#records = records;
    this.#rows = new SnapshotRows(records.database);
    this.#noteChange = records.afterNoted(onChanged);
  }

  find({ namespace, snapshotter, key }: SnapshotName): SnapshotRow | undefined {
    return this.#rows.find.get(namespace, snapshotter, key);
  }

  /** @throws {@link FlotillaError} `not_found`. */
  require(name: SnapshotName): SnapshotRow {
    const row = this.find(name);
    if (row === undefined) {
      throw failure(ErrorKind.NotFound, `snapshot ${name.key} does not exist`);
    }
    return row;
  }

  /** The encoded records of a namespace and snapshotter by key, after one, at most so many. */
  page({ namespace, snapshotter, key: afterKey }: SnapshotName, countMax: number): NamedRecord[] {
    return this.#rows.page.all(namespace, snapshotter, afterKey, countMax);
  }

  /** Whether a snapshot stands on this one. */
  hasChild({ namespace, snapshotter, key }: SnapshotName): boolean {
    return this.#rows.hasChild.get(namespace, snapshotter, key) !== undefined;
  }

  /** Whether a record has what a proxied snapshotter knows by that name; never, for "". */
  isShared(snapshotter: string, backendName: string): boolean {
    return this.#rows.isShared.get(snapshotter, backendName) !== undefined;
  }

  /** Where the snapshot of a row lies. */
  locate(name: SnapshotName, row: SnapshotRow): SnapshotLocation {
    const { namespace, snapshotter, key } = name;
    const { kind, labels } = fromBinary(InfoSchema, row.message);
    return {
      id: row.id,
      parentIds: this.#rows.ancestors.all(namespace, snapshotter, key),
      kind,
      labels,
      backendName: row.backend_name,
      // Nobody else's snapshots are known by names.
      backendParent:
        row.backend_name === "" ? "" : (this.find({ namespace, snapshotter, key: row.parent })?.backend_name ?? ""),
    };
  }

  /** Adds a record under a key that is free, made and changed now. */
  add(
    { namespace, snapshotter, key }: SnapshotName,
    { parent, kind, labels }: { readonly parent: string; readonly kind: Kind; readonly labels: Labels },
    { id, usage, backendName }: SnapshotPlace,
  ): void {
    const now = timestampOf(this.#records.clock());
    const info = create(InfoSchema, {
      name: key,
      parent,
      kind,
      createdAt: now,
      updatedAt: now,
      labels: withoutEmptyLabels(labels),
    });
    this.#rows.insert.run(
      namespace,
      snapshotter,
      key,
      id,
      kind,
      parent,
      toBinary(InfoSchema, info),
      usage?.sizeBytes ?? null,
      usage?.inodes ?? null,
      backendName,
    );
    this.#putNode({ namespace, snapshotter, key }, info);
  }

  /** Puts another message in the place of a record's. */
  replace(name: SnapshotName, info: Info): void {
    this.#noteChange();
    this.#rows.setMessage.run(toBinary(InfoSchema, info), name.namespace, name.snapshotter, name.key);
    this.#putNode(name, info);
  }

  /** Removes a record. @returns undefined when there was none. */
  remove(name: SnapshotName): Pick<SnapshotRow, "id" | "backend_name"> | undefined {
    this.#noteChange();
    this.#records.graph.remove(resourceOf(name));
    return this.#rows.remove.get(name.namespace, name.snapshotter, name.key);
  }

  #putNode(name: SnapshotName, info: Info): void {
    const parents =
      info.parent === ""
        ? []
        : [{ kind: ResourceKind.Snapshot, key: snapshotResourceKey(name.snapshotter, info.parent) }];
    this.#records.graph.put(resourceOf(name), readReferenceFacts(ResourceKind.Snapshot, info.labels, parents));
  }
}
