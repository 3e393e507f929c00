import { clone, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { timestampOf } from "#base/times.ts";
import { withoutEmptyLabels } from "#containerd/labels.ts";
import {
  ContainerCreateSchema,
  ContainerDeleteSchema,
  ContainerUpdateSchema,
} from "#gen/containerd/events/container_pb.ts";
import { type Container, ContainerSchema } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import type { Statement } from "#sqlite/open.ts";
import { updateContainer, validateContainer } from "../domain/container.ts";
import { readReferenceFacts } from "../domain/reference-labels.ts";
import { type Resource, ResourceKind, snapshotResourceKey } from "../domain/resource.ts";
import { ListCache } from "./list-cache.ts";
import type { NamespaceStore } from "./namespaces.ts";
import type { Records } from "./records.ts";

/**
 * The containers of all namespaces. A container is a record alone; what runs belongs to the tasks process.
 *
 * @source containerd v2.3.4 core/metadata/containers.go, plugins/services/containers/local.go
 */
export class ContainerStore {
  readonly #records: Records;
  readonly #namespaces: NamespaceStore;
  readonly #lists = new ListCache();
  readonly #find: Statement<[string, string], Uint8Array>;
  readonly #list: Statement<[string], Uint8Array>;
  readonly #put: Statement<[string, string, Uint8Array]>;
  readonly #remove: Statement<[string, string]>;

  constructor(records: Records, namespaces: NamespaceStore) {
    const { database } = records;
    this.#records = records;
    this.#namespaces = namespaces;
    this.#find = database
      .prepare<[string, string], Uint8Array>("SELECT message FROM containers WHERE namespace = ? AND id = ?")
      .pluck();
    this.#list = database
      .prepare<[string], Uint8Array>("SELECT message FROM containers WHERE namespace = ? ORDER BY id")
      .pluck();
    this.#put = database.prepare(
      `INSERT INTO containers (namespace, id, message) VALUES (?, ?, ?)
       ON CONFLICT (namespace, id) DO UPDATE SET message = excluded.message`,
    );
    this.#remove = database.prepare("DELETE FROM containers WHERE namespace = ? AND id = ?");
  }

  /** The encoded record of a container. */
  get(namespace: string, id: string): Uint8Array {
    const message = this.#find.get(namespace, id);
    if (message === undefined) {
      throw failure(ErrorKind.NotFound, `container ${quote(id)} in namespace ${quote(namespace)}`);
    }
    return message;
  }

  /** The encoded records of a namespace by id. */
  list(namespace: string): Uint8Array[] {
    return this.#list.all(namespace);
  }

  /** The same as one message with the records in field 1. */
  encodedList(namespace: string): Uint8Array {
    return this.#lists.get(namespace, () => this.list(namespace));
  }

  create(namespace: string, wanted: Container): Promise<Container> {
    return this.#records.write(() => {
      try {
        validateContainer(wanted);
      } catch (error) {
        throw wrapFailure(error, "create container failed validation");
      }
      if (this.#find.get(namespace, wanted.id) !== undefined) {
        throw failure(ErrorKind.AlreadyExists, `container ${quote(wanted.id)}`);
      }
      this.#namespaces.ensure(namespace, "containers");
      const now = timestampOf(this.#records.clock());
      const container = clone(ContainerSchema, wanted);
      container.labels = withoutEmptyLabels(wanted.labels);
      container.createdAt = now;
      container.updatedAt = now;
      this.#store(namespace, container);
      this.#records.outbox.add(namespace, "/containers/create", ContainerCreateSchema, {
        id: container.id,
        image: container.image,
        runtime: {
          name: container.runtime?.name ?? "",
          ...(container.runtime?.options === undefined ? {} : { options: container.runtime.options }),
        },
      });
      return container;
    });
  }

  /** @param paths - Of the update mask; none takes over all that may change. */
  update(namespace: string, wanted: Container, paths: readonly string[]): Promise<Container> {
    return this.#records.write(() => {
      if (!this.#namespaces.hasEverHad(namespace, "containers")) {
        throw failure(
          ErrorKind.NotFound,
          `cannot update container ${quote(wanted.id)} in namespace ${quote(namespace)}`,
        );
      }
      const message = this.#find.get(namespace, wanted.id);
      if (message === undefined) {
        throw failure(ErrorKind.NotFound, `container ${quote(wanted.id)}`);
      }
      const container = fromBinary(ContainerSchema, message);
      const extensionsBefore = container.extensions;
      updateContainer(container, wanted, paths, create(AnySchema));
      container.labels = withoutEmptyLabels(container.labels);
      container.updatedAt = timestampOf(this.#records.clock());
      // containerd answers with the extensions that were asked for, and yet never removes one.
      this.#store(namespace, { ...container, extensions: { ...extensionsBefore, ...container.extensions } });
      this.#records.outbox.add(namespace, "/containers/update", ContainerUpdateSchema, {
        id: container.id,
        image: container.image,
        labels: container.labels,
        snapshotKey: container.snapshotKey,
      });
      return container;
    });
  }

  remove(namespace: string, id: string): Promise<void> {
    return this.#records.write((change) => {
      if (!this.#namespaces.hasEverHad(namespace, "containers")) {
        throw failure(ErrorKind.NotFound, `cannot delete container ${quote(id)} in namespace ${quote(namespace)}`);
      }
      if (this.#remove.run(namespace, id).changes === 0) {
        throw failure(ErrorKind.NotFound, `container ${id}`);
      }
      this.#lists.drop(namespace);
      this.#records.graph.remove(resourceOf(namespace, id));
      this.#records.outbox.add(namespace, "/containers/delete", ContainerDeleteSchema, { id });
      change.noteDeletion();
    });
  }

  #store(namespace: string, container: Container): void {
    this.#lists.drop(namespace);
    this.#put.run(namespace, container.id, toBinary(ContainerSchema, container));
    const snapshot =
      container.snapshotter === ""
        ? []
        : [
            {
              kind: ResourceKind.Snapshot,
              key: snapshotResourceKey(container.snapshotter, container.snapshotKey),
            },
          ];
    this.#records.graph.put(
      resourceOf(namespace, container.id),
      readReferenceFacts(ResourceKind.Container, container.labels, snapshot),
    );
  }
}

function resourceOf(namespace: string, id: string): Resource {
  return { namespace, kind: ResourceKind.Container, key: id };
}
