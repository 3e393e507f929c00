import { create } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { timestampOf } from "#base/times.ts";
import { type Labels, withoutEmptyLabels } from "#containerd/labels.ts";
import { LeaseSchema } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import type { Statement } from "#sqlite/open.ts";
import { type LeaseResource, mountLeaseType, parseLeaseResource, randomLeaseId } from "../domain/lease.ts";
import { type Resource, ResourceKind, splitSnapshotResourceKey } from "../domain/resource.ts";
import type { NamespaceContents, NamespaceStore } from "./namespaces.ts";
import { RecordTable } from "./record-table.ts";
import type { Records } from "./records.ts";

const typeNames: Partial<Record<ResourceKind, string>> = {
  [ResourceKind.Content]: "content",
  [ResourceKind.Image]: "images",
  [ResourceKind.Ingest]: "ingests",
  [ResourceKind.Mount]: mountLeaseType,
};

/**
 * Leases and what they hold.
 *
 * @source containerd v2.3.4 core/metadata/leases.go, plugins/leases/local.go
 */
export class LeaseStore implements NamespaceContents {
  readonly table: RecordTable<typeof LeaseSchema>;
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #listResources: Statement<[string, string], LeaseResource>;
  readonly #addResource: Statement<[string, string, string, string]>;
  readonly #removeResource: Statement<[string, string, string, string]>;
  readonly #removeResources: Statement<[string, string]>;
  readonly #removeAllResources: Statement<[string]>;

  constructor(records: Records, namespaces: NamespaceStore) {
    const { database } = records;
    this.#records = records;
    this.#namespaces = namespaces;
    this.table = new RecordTable(records, {
      table: "leases",
      nameColumn: "id",
      schema: LeaseSchema,
      resource: ResourceKind.Lease,
    });
    this.#listResources = database.prepare(
      `SELECT type, id FROM lease_resources
       WHERE namespace = ? AND lease = ? AND type != '${mountLeaseType}' ORDER BY type, id`,
    );
    this.#addResource = database.prepare(
      "INSERT OR IGNORE INTO lease_resources (namespace, lease, type, id) VALUES (?, ?, ?, ?)",
    );
    this.#removeResource = database.prepare(
      "DELETE FROM lease_resources WHERE namespace = ? AND lease = ? AND type = ? AND id = ?",
    );
    this.#removeResources = database.prepare("DELETE FROM lease_resources WHERE namespace = ? AND lease = ?");
    this.#removeAllResources = database.prepare("DELETE FROM lease_resources WHERE namespace = ?");
  }

  /**
   * @param id - Empty for a random one.
   * @returns The encoded record.
   */
  create(namespace: string, id: string, labels: Labels): Promise<Uint8Array> {
    return this.#records.write(() => {
      const nowNs = this.#records.clock();
      const lease = create(LeaseSchema, {
        id: id === "" ? randomLeaseId(nowNs) : id,
        labels: withoutEmptyLabels(labels),
        createdAt: timestampOf(nowNs),
      });
      if (this.table.has(namespace, lease.id)) {
        throw failure(ErrorKind.AlreadyExists, `lease ${quote(lease.id)}`);
      }
      this.#namespaces.ensure(namespace);
      return this.table.put(namespace, lease.id, lease);
    });
  }

  remove(namespace: string, id: string): Promise<void> {
    return this.#records.write((change) => {
      this.#require(namespace, id);
      this.collect(namespace, id);
      change.noteDeletion();
    });
  }

  /** Removes the record of a lease, inside a change. */
  collect(namespace: string, id: string): void {
    this.table.remove(namespace, id);
    this.#removeResources.run(namespace, id);
  }

  removeNamespace(namespace: string): void {
    this.table.removeNamespace(namespace);
    this.#removeAllResources.run(namespace);
  }

  addResource(namespace: string, id: string, resource: LeaseResource): Promise<void> {
    return this.#records.write(() => {
      this.#require(namespace, id);
      this.#add(id, parseLeaseResource(namespace, resource));
    });
  }

  removeResource(namespace: string, id: string, resource: LeaseResource): Promise<void> {
    return this.#records.write((change) => {
      this.#require(namespace, id);
      this.release(id, parseLeaseResource(namespace, resource));
      change.noteDeletion();
    });
  }

  /** What a lease holds: content, images, ingests and snapshots, in this order. */
  listResources(namespace: string, id: string): LeaseResource[] {
    this.#require(namespace, id);
    return this.#listResources.all(namespace, id);
  }

  /**
   * Has the lease of a call hold a resource, inside a change.
   *
   * @param id - Empty when the call names no lease; nothing happens then.
   * @throws {@link FlotillaError} `not_found` when there is no such lease.
   */
  hold(id: string, resource: Resource): void {
    if (id === "") {
      return;
    }
    if (!this.table.has(resource.namespace, id)) {
      throw failure(ErrorKind.NotFound, "lease does not exist");
    }
    this.#add(id, resource);
  }

  /** Has a lease hold a resource no longer, inside a change. A lease that does not exist, or none, is no error. */
  release(id: string, resource: Resource): void {
    const { type, id: resourceId } = leaseResourceOf(resource);
    this.#removeResource.run(resource.namespace, id, type, resourceId);
  }

  #add(id: string, resource: Resource): void {
    const { type, id: resourceId } = leaseResourceOf(resource);
    this.#addResource.run(resource.namespace, id, type, resourceId);
    this.#records.graph.touch(resource);
  }

  #require(namespace: string, id: string): void {
    if (!this.table.has(namespace, id)) {
      throw failure(ErrorKind.NotFound, `lease ${quote(id)}`);
    }
  }
}

function leaseResourceOf({ kind, key }: Resource): LeaseResource {
  if (kind === ResourceKind.Snapshot) {
    const snapshot = splitSnapshotResourceKey(key);
    return { type: `snapshots/${snapshot.snapshotter}`, id: snapshot.key };
  }
  const type = typeNames[kind];
  if (type === undefined) {
    throw new RangeError(`a lease holds no resource of kind ${kind}`);
  }
  return { type, id: key };
}
